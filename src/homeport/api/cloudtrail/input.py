"""What a LookupEvents request asks for, checked.

Owns: `wanted_of`, `reworded`. Never looks anything up.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.audit.search import Wanted
from homeport.errors import (
    ApiError,
    InvalidEventCategoryError,
    InvalidLookupAttributesError,
    InvalidMaxResultsError,
    InvalidParameterError,
    InvalidTimeRangeError,
)

ATTRIBUTES_MAX: Final = 1
_WORDS: Final = (
    ("maxResults", InvalidMaxResultsError),
    ("lookupAttributes", InvalidLookupAttributesError),
    ("eventCategory", InvalidEventCategoryError),
)


def reworded(error: InvalidParameterError) -> ApiError:
    """A violation of the model under the code that CloudTrail has for it."""
    text = error.message.lower()
    return next((kind(error.message) for member, kind in _WORDS if member.lower() in text), error)


def wanted_of(account: str, request: Any) -> Wanted:
    """Raises InvalidLookupAttributesError for more than one attribute, InvalidTimeRangeError for an end before the start."""
    attributes = request.LookupAttributes or []
    if len(attributes) > ATTRIBUTES_MAX:
        raise InvalidLookupAttributesError("Only one lookup attribute can be specified.")
    since, until = request.StartTime or 0.0, request.EndTime if request.EndTime is not None else 2.0**53
    if since > until:
        raise InvalidTimeRangeError("The start time must be before the end time.")
    attribute = attributes[0] if attributes else None
    return Wanted(
        account=account,
        since=float(int(since)),
        until=float(int(until)),
        key=attribute.AttributeKey if attribute else "",
        value=attribute.AttributeValue if attribute else "",
    )
