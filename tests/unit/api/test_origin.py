"""Whose word on a call's origin counts."""

from __future__ import annotations

import pytest

from homeport.api.origin import HEADER, sealed, told

AUTHORIZATION = b"AWS4-HMAC-SHA256 Credential=AK/, Signature=abc"
GOOD = sealed("secret", AUTHORIZATION, "100.64.0.9", secure=True)


def headers(value: str, authorization: bytes = AUTHORIZATION) -> dict[bytes, bytes]:
    return {HEADER: value.encode(), b"authorization": authorization}


def test_a_servers_word_counts():
    assert told("secret", headers(GOOD)) == ("100.64.0.9", True)
    assert told("secret", headers(sealed("secret", AUTHORIZATION, "::1", secure=False))) == ("::1", False)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "https 100.64.0.9",
        "https 100.64.0.9 ",
        GOOD[:-1],
        GOOD.replace("0.9", "0.8"),
        GOOD.replace("https", "http"),
        GOOD + " x",
        sealed("other", AUTHORIZATION, "100.64.0.9", secure=True),
    ],
)
def test_nobody_elses_does(value):
    assert told("secret", headers(value)) is None


def test_it_is_good_for_one_call():
    assert told("secret", headers(GOOD, b"AWS4-HMAC-SHA256 Credential=AK/, Signature=abd")) is None
    assert told("secret", {b"authorization": AUTHORIZATION}) is None
