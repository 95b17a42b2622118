"""The targets of lifecycle hooks in a control plane without a network: they answer what a test says.

Owns: `HookTargets`. Waits only where a test's answer does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from homeport.controllers.lifecycle_hook import HookCallError

Answer = Callable[[dict[str, Any]], Any]


class HookTargets:
    """Every URL answers SUCCEEDED until a test says otherwise. A `HookCaller`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        """URL → what it answers to a payload, or something that is awaited for it; None stands for no answer at all."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """What was called, in order."""

    async def call(self, url: str, payload: dict[str, Any], *, within_seconds: float) -> Any:
        """The answer of `url`."""
        self.calls.append((url, payload))
        answer = self.answers[url](payload) if url in self.answers else {"hookStatus": "SUCCEEDED"}
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None:
            raise HookCallError("It could not be called: nobody is there", final=False)
        return answer
