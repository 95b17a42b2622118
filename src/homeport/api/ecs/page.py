"""The page of a list operation: its size, and the member that leads to the next one.

Owns: the bounds of `maxResults` (ecs-reference 1.1) and the form of `nextToken` in an answer. Never seals tokens: `api/pagination.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from homeport.api import pagination
from homeport.api.call import Call
from homeport.errors import InvalidParameterError

LIST_MAX: Final = 100
"""Largest and default page of nearly every list operation."""


def limit_of(max_results: int | None, *, limit_max: int = LIST_MAX, default: int = LIST_MAX) -> int:
    """The page's size. Raises InvalidParameterError when `max_results` is not from 1 to `limit_max`."""
    if max_results is None:
        return default
    if not 1 <= max_results <= limit_max:
        raise InvalidParameterError(f"maxResults must be between 1 and {limit_max}.")
    return max_results


def next_page(call: Call, last: str | None, filters: Sequence[Any] = ()) -> dict[str, str]:
    """{"nextToken": …} when more records follow `last`, else {}: ECS leaves the member out at the end."""
    return {} if last is None else {"nextToken": pagination.page_token(call, last, filters)}
