"""Settings from text: names, types, and numbers that make sense."""

from __future__ import annotations

import pytest

from homeport.config import Settings, UnknownSettingError, parse_settings


def test_values_go_over_what_is_there():
    found = parse_settings(["tags_max=7", "request_throttling_factor=1"], Settings(sweep_seconds=3.0))
    assert (found.tags_max, found.request_throttling_factor, found.sweep_seconds) == (7, 1.0, 3.0)


@pytest.mark.parametrize(
    "pair",
    ["tags_max", "nothing=1", "tags_max=many", "tags_max=-1", "request_throttling_factor=nan", "request_throttling_factor=-1", "sweep_seconds=inf"],
)
def test_what_is_no_setting_or_no_sensible_value_is_refused(pair):
    with pytest.raises(UnknownSettingError):
        parse_settings([pair])
