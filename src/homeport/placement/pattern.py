"""Regular expressions for `=~` that never take long: a set-of-states matcher in time proportional to pattern × text.

Owns: the RE2-safe subset that memberOf accepts (literals, ., classes, escapes, groups, |, * + ? {m,n}, ^ $) and its limits.
Never uses Python's `re` to match: its backtracking would let one stored expression stall every placement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PATTERN_CHARACTERS_MAX: Final = 512
STATES_MAX: Final = 2000
REPEAT_MAX: Final = 200
_MEMO_MAX: Final = 1024

_DIGITS: Final = frozenset("0123456789")
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

Test = Callable[[str], bool]
"""Whether one character is accepted."""


class PatternError(Exception):
    """The pattern is malformed, or uses what the safe subset leaves out. The message says which."""


class _State:
    """A state: `test` and one successor, or no test and several (an empty move). `end` marks the text's two ends for ^ and $."""

    __slots__ = ("anchor", "next", "number", "test")

    def __init__(self, number: int) -> None:
        self.number = number
        self.test: Test | None = None
        self.next: list[_State] = []
        self.anchor = ""


class _Node:
    """A piece of the parsed pattern: kind is char, anchor, cat, or, or repeat."""

    __slots__ = ("anchor", "high", "kind", "low", "parts", "test")

    def __init__(
        self, kind: str, *, parts: list[_Node] | None = None, test: Test | None = None, anchor: str = "", bounds: tuple[int, int] = (0, 0)
    ) -> None:
        self.kind = kind
        self.parts = parts or []
        self.test = test
        self.anchor = anchor
        self.low, self.high = bounds


_UNBOUNDED: Final = -1


class _Parser:
    """Recursive descent over the pattern's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def parse(self) -> _Node:
        node = self.alternatives(0)
        if self.at < len(self.text):
            raise PatternError("unmatched )")
        return node

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def take(self) -> str:
        character = self.peek()
        if not character:
            raise PatternError("unexpected end of pattern")
        self.at += 1
        return character

    def alternatives(self, depth: int) -> _Node:
        if depth > 50:
            raise PatternError("groups nested too deep")
        parts = [self.sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence(depth))
        return parts[0] if len(parts) == 1 else _Node("or", parts=parts)

    def sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom(depth)))
        return _Node("cat", parts=parts)

    def repeated(self, node: _Node) -> _Node:
        while self.peek() and self.peek() in "*+?{":
            if node.kind == "repeat" and self.peek() == "+":
                raise PatternError("possessive quantifiers are not supported")
            if node.kind == "repeat" and self.peek() == "?":
                self.at += 1  # lazy: a full match is the same
                continue
            node = _Node("repeat", parts=[node], bounds=self.bounds())
        return node

    def bounds(self) -> tuple[int, int]:
        sign = self.take()
        if sign != "{":
            return {"*": (0, _UNBOUNDED), "+": (1, _UNBOUNDED), "?": (0, 1)}[sign]
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at : end].partition(",") if end >= 0 else ("", "", "")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise PatternError("malformed repetition")
        self.at = end + 1
        least = int(low)
        most = least if not comma else int(high) if high else _UNBOUNDED
        if least > REPEAT_MAX or most > REPEAT_MAX or (most != _UNBOUNDED and most < least):
            raise PatternError("malformed repetition")
        return least, most

    def atom(self, depth: int) -> _Node:
        character = self.take()
        if character in "*+?{":
            raise PatternError("nothing to repeat")
        if character == "(":
            return self.group(depth)
        if character == "[":
            return _Node("char", test=self.character_class())
        if character in "^$":
            return _Node("anchor", anchor=character)
        if character == ".":
            return _Node("char", test=lambda c: c != "\n")
        if character == "\\":
            return _Node("char", test=_accept(*self.escape()))
        return _Node("char", test=_accept(frozenset(character), False))

    def group(self, depth: int) -> _Node:
        if self.text.startswith("?:", self.at):
            self.at += 2
        elif self.peek() == "?":
            raise PatternError("look-around and inline flags are not supported")
        node = self.alternatives(depth + 1)
        if self.peek() != ")":
            raise PatternError("missing )")
        self.at += 1
        return _Node("cat", parts=[node])

    def escape(self) -> tuple[frozenset[str], bool]:
        """The characters of an escape, and whether they are the ones left out."""
        character = self.take()
        if character.lower() in _CLASSES:
            return _CLASSES[character.lower()], character.isupper()
        if character in _CONTROLS:
            return frozenset(_CONTROLS[character]), False
        if character.isascii() and character.isalnum():
            raise PatternError(f"\\{character} is not supported")
        return frozenset(character), False

    def character_class(self) -> Test:
        negated = self.peek() == "^"
        if negated:
            self.at += 1
        tests: list[Test] = []
        first = True
        while first or self.peek() != "]":
            first = False
            tests.append(self.class_item())
        self.at += 1
        return lambda c: any(test(c) for test in tests) != negated

    def class_item(self) -> Test:
        character = self.take()
        if character == "[":
            raise PatternError("[ inside a character class must be escaped")
        if character == "\\":
            members, left_out = self.escape()
            if len(members) > 1:
                return _accept(members, left_out)
            (character,) = members
        if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("", "]"):
            self.at += 1
            high = self.take()
            if high == "\\":
                members, _ = self.escape()
                if len(members) > 1:
                    raise PatternError("malformed range")
                (high,) = members
            if high < character:
                raise PatternError("malformed range")
            low = character
            return lambda c: low <= c <= high
        return _accept(frozenset(character), False)


def _accept(members: frozenset[str], left_out: bool) -> Test:
    return (lambda c: c not in members) if left_out else (lambda c: c in members)


class Pattern:
    """A compiled pattern; `matches` is true only for a match of the whole text."""

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        if len(text) > PATTERN_CHARACTERS_MAX:
            raise PatternError(f"longer than {PATTERN_CHARACTERS_MAX} characters")
        self.text = text
        self._count = 0
        self._final = self._state()
        self._start = self._build(_Parser(text).parse(), self._final)
        self._memo: dict[str, bool] = {}

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole of `text`."""
        known = self._memo.get(text)
        if known is None:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            known = self._memo[text] = self._run(text)
        return known

    def _run(self, text: str) -> bool:
        current = self._closure([self._start], at_start=True, at_end=not text)
        for index, character in enumerate(text):
            moved = [state.next[0] for state in current if state.test is not None and state.test(character)]
            if not moved:
                return False
            current = self._closure(moved, at_start=False, at_end=index == len(text) - 1)
        return any(state is self._final for state in current)

    @staticmethod
    def _closure(states: list[_State], *, at_start: bool, at_end: bool) -> list[_State]:
        """Every state that empty moves lead to."""
        seen: set[int] = set()
        found: list[_State] = []
        stack = list(states)
        while stack:
            state = stack.pop()
            if state.number in seen:
                continue
            seen.add(state.number)
            found.append(state)
            if state.test is None and (not state.anchor or (at_start if state.anchor == "^" else at_end)):
                stack.extend(state.next)
        return found

    def _state(self) -> _State:
        self._count += 1
        if self._count > STATES_MAX:
            raise PatternError("too complex")
        return _State(self._count)

    def _build(self, node: _Node, after: _State) -> _State:
        """The state from which `node` leads to `after`."""
        if node.kind == "cat":
            for part in reversed(node.parts):
                after = self._build(part, after)
            return after
        if node.kind == "or":
            state = self._state()
            state.next = [self._build(part, after) for part in node.parts]
            return state
        if node.kind == "repeat":
            return self._build_repeat(node, after)
        state = self._state()
        state.test, state.anchor, state.next = node.test, node.anchor, [after]
        return state

    def _build_repeat(self, node: _Node, after: _State) -> _State:
        part = node.parts[0]
        if node.high == _UNBOUNDED:
            loop = self._state()
            loop.next = [self._build(part, loop), after]
            tail = loop
        else:
            tail = after
            for _ in range(node.high - node.low):
                state = self._state()
                state.next = [self._build(part, tail), after]
                tail = state
        for _ in range(node.low):
            tail = self._build(part, tail)
        return tail
