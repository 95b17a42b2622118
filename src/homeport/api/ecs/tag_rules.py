"""What tags may be, and their two forms.

Owns: the checks of tags at every operation that takes them, their merging and their JSON. Never reads or writes the store.
Source: ecs-reference 3.20 (at most 50, key up to 128, value up to 256 characters, case matters, `aws:` is reserved).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from homeport.errors import InvalidParameterError, LimitExceededError
from homeport.model.record import Tags

KEY_LENGTH_MAX: Final = 128
VALUE_LENGTH_MAX: Final = 256
_EXTRA_CHARACTERS: Final = frozenset("_.:/=+-@ ")


def tags_of(given: Sequence[Any] | None, *, tags_max: int) -> Tags:
    """The tags of a request (items with `key` and `value`), checked, in the order given.

    Raises InvalidParameterError for more than `tags_max`, a key twice, a reserved key, or a key or value of wrong length or characters.
    """
    if not given:
        return ()
    if len(given) > tags_max:
        raise InvalidParameterError(f"The number of tags exceeds the limit of {tags_max}.")
    tags: dict[str, str] = {}
    for tag in given:
        key, value = tag.key, tag.value or ""
        if not key:
            raise InvalidParameterError("Tag key can not be null or empty.")
        if key in tags:
            raise InvalidParameterError(f"Duplicate tag keys found: {key}")
        _check(key, value)
        tags[key] = value
    return tuple(tags.items())


def _check(key: str, value: str) -> None:
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidParameterError(f"Tag key exceeds the maximum length of {KEY_LENGTH_MAX} characters.")
    if len(value) > VALUE_LENGTH_MAX:
        raise InvalidParameterError(f"Tag value exceeds the maximum length of {VALUE_LENGTH_MAX} characters.")
    if is_reserved(key) or is_reserved(value):
        raise InvalidParameterError("Tag keys and values that start with aws: are reserved.")
    for text in (key, value):
        # Letters and digits are nearly all that tags have; only the rest is looked at character by character.
        if not text.isalnum() and not all(c.isalnum() or c in _EXTRA_CHARACTERS for c in text):
            raise InvalidParameterError(f"Tag key or value has a character that is not allowed: {text}")


def is_reserved(text: str) -> bool:
    """Whether a key or value belongs to AWS. Such tags do not count against the limit."""
    return text[:4].lower() == "aws:"


def merged(old: Tags, new: Tags, *, tags_max: int) -> Tags:
    """`old` with the values of `new` put over it. Raises LimitExceededError above `tags_max`."""
    tags = {**dict(old), **dict(new)}
    if sum(not is_reserved(key) for key in tags) > tags_max:
        raise LimitExceededError(f"The number of tags on the resource would exceed the limit of {tags_max}.")
    return tuple(tags.items())


def without(old: Tags, keys: Sequence[str]) -> Tags:
    """`old` without the tags that `keys` names. Raises InvalidParameterError for a reserved key: AWS's tags stay."""
    if reserved := [key for key in keys if is_reserved(key)]:
        raise InvalidParameterError(f"Tag keys that start with aws: are reserved and cannot be removed: {reserved[0]}")
    return tuple(tag for tag in old if tag[0] not in keys)


def tags_json(tags: Tags) -> list[dict[str, str]]:
    """The API's form: a list of {key, value}."""
    return [{"key": key, "value": value} for key, value in tags]
