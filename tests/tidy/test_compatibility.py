"""docs/compatibility.md says what the model and the handlers say."""

from __future__ import annotations

from homeport.api.compatibility import whole_page


def test_the_compatibility_page_is_up_to_date(root):
    assert (root / "docs/compatibility.md").read_text() == whole_page(), "run ./dev docs"
