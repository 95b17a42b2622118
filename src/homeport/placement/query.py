"""The cluster query language: memberOf expressions and the filter of ListContainerInstances.

Owns: the grammar of ecs-reference 3.7, its errors, and the meaning of every operator on one instance (`Subject`).
Never knows which instances exist. Expressions compile to plain functions; `Query.dynamic` says whether running tasks can change the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol

from homeport.placement.pattern import Pattern, PatternError

EXPRESSION_CHARACTERS_MAX: Final = 2000
_DEPTH_MAX: Final = 100


class QueryError(Exception):
    """The expression is not valid. `message` is a sentence for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Subject(Protocol):
    """What an expression is asked of: one instance with its tasks."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Attribute name → value ("" for one without)."""
        ...

    @property
    def agent_connected(self) -> bool:
        """Whether its agent has a session."""
        ...

    @property
    def agent_version(self) -> str:
        """For example 1.89.1; "" when unknown."""
        ...

    @property
    def ec2_instance_id(self) -> str:
        """For example i-0123…; "" when unknown."""
        ...

    @property
    def registered_at(self) -> float:
        """Instant of registration."""
        ...

    @property
    def running(self) -> int:
        """Tasks whose desired status is RUNNING."""
        ...

    @property
    def groups(self) -> Mapping[str, int]:
        """Task group → tasks of it whose desired status is RUNNING."""
        ...


Predicate = Callable[[Subject], bool]


class Query:
    """A compiled expression."""

    __slots__ = ("dynamic", "matches", "text")

    def __init__(self, text: str, matches: Predicate, dynamic: bool) -> None:
        self.text = text
        self.matches = matches
        self.dynamic = dynamic
        """True when it asks for runningTasksCount or task:group, which change with every task."""


_OPERATORS: Final = {
    "==": "==", "equals": "==",
    "!=": "!=", "not_equals": "!=",
    ">": ">", "greater_than": ">",
    ">=": ">=", "greater_than_equal": ">=",
    "<": "<", "less_than": "<",
    "<=": "<=", "less_than_equal": "<=",
    "in": "in",
    "!in": "!in", "not_in": "!in",
    "=~": "=~", "matches": "=~",
    "!~": "!~", "not_matches": "!~",
    "exists": "exists",
    "!exists": "!exists", "not_exists": "!exists",
}  # fmt: skip

_ORDERING: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
}
_EQUALITY: Final = frozenset({"==", "!=", "in", "!in", "=~", "!~"})
_OPERATORS_OF: Final = {
    "agentConnected": _EQUALITY,
    "ec2InstanceId": _EQUALITY,
    "agentVersion": frozenset(_ORDERING),
    "registeredAt": frozenset(_ORDERING),
    "runningTasksCount": frozenset(_ORDERING),
    "task:group": _EQUALITY | {"exists", "!exists"},
}

_SYMBOL: Final = re.compile(r"==|!=|>=|<=|=~|!~|>|<|&&|\|\||!\s*(?:in|exists)(?![A-Za-z0-9_])|[()!,\[\]]")
_SUBJECT: Final = re.compile(r"attribute:[A-Za-z0-9_\-/\\.]+|[A-Za-z_][A-Za-z0-9_:]*")
_LITERAL: Final = re.compile(r"(?:(?!&&|\|\|)[^\s,\[\]()'\"])+")
_WORD: Final = re.compile(r"[a-z_]+")
_REGEX_LITERAL: Final = re.compile(r"[^\s()'\"]*(?:\([^\s()]*\)[^\s()'\"]*)*")
_VERSION: Final = re.compile(r"v?(\d{1,9}(?:\.\d{1,9})*)")
"""With a bound: what an agent calls its version may be thousands of digits, which Python refuses to read as a number."""
_COUNT: Final = re.compile(r"\d+")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?(?:[Zz]|[+-]\d{2}:?\d{2})?")
_SPACES: Final = re.compile(r"\s*")


def parse(text: str) -> Query:
    """Compile an expression. Raises QueryError."""
    if not text.strip():
        raise QueryError("The expression is empty.")
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise QueryError(f"The expression is longer than {EXPRESSION_CHARACTERS_MAX} characters.")
    return _Parser(text).parse()


class _Parser:
    """or := and {"||" and};  and := unary {"&&" unary};  unary := "!" unary | "(" or ")" | subject op [argument]."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.dynamic = False

    def parse(self) -> Query:
        predicate = self.any_of(0)
        if self.at < len(self.text):
            self.fail(self.text[self.at :])
        return Query(self.text, predicate, self.dynamic)

    def fail(self, near: str) -> NoReturn:
        raise QueryError(f"The expression '{self.text}' is invalid near '{near[:40]}' at position {self.at}.")

    def skip(self) -> None:
        found = _SPACES.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def accept(self, *words: str) -> bool:
        """Take one of the symbols or whole words, if it comes next."""
        self.skip()
        for word in words:
            if self.text[self.at : self.at + len(word)].lower() != word:
                continue
            if word[-1].isalpha() and re.match(r"[A-Za-z0-9_:.]", self.text[self.at + len(word) : self.at + len(word) + 1]):
                continue
            self.at += len(word)
            self.skip()
            return True
        return False

    def any_of(self, depth: int) -> Predicate:
        predicate = self.all_of(depth)
        while self.accept("||", "or"):
            predicate = _either(predicate, self.all_of(depth))
        return predicate

    def all_of(self, depth: int) -> Predicate:
        predicate = self.unary(depth)
        while self.accept("&&", "and"):
            predicate = _both(predicate, self.unary(depth))
        return predicate

    def unary(self, depth: int) -> Predicate:
        if depth > _DEPTH_MAX:
            raise QueryError("The expression is nested too deep.")
        if self.accept("!", "not"):
            return _negation(self.unary(depth + 1))
        if self.accept("("):
            predicate = self.any_of(depth + 1)
            if not self.accept(")"):
                self.fail(self.text[self.at :])
            return predicate
        return self.term()

    def term(self) -> Predicate:
        found = _SUBJECT.match(self.text, self.at)
        if not found:
            self.fail(self.text[self.at :])
        subject = found.group()
        if not subject.startswith("attribute:") and subject not in _OPERATORS_OF:
            raise QueryError(f"The subject '{subject}' in the expression '{self.text}' is not known.")
        self.at = found.end()
        operator = self.operator(subject)
        if operator in ("exists", "!exists"):
            arguments: list[str] = []
        elif operator in ("in", "!in"):
            arguments = self.list_argument()
        else:
            arguments = [self.argument(pattern=operator in ("=~", "!~"))]
        self.skip()
        return self.compile_term(subject, operator, arguments)

    def operator(self, subject: str) -> str:
        self.skip()
        found = _SYMBOL.match(self.text, self.at) or _WORD.match(self.text, self.at)
        operator = _OPERATORS.get(re.sub(r"\s", "", found.group())) if found else None
        if found is None or operator is None:
            self.fail(self.text[self.at :])
        allowed = _OPERATORS_OF.get(subject)
        if allowed is not None and operator not in allowed:
            raise QueryError(f"The operator '{found.group()}' cannot be used with '{subject}' in the expression '{self.text}'.")
        self.at = found.end()
        self.skip()
        return operator

    def argument(self, *, pattern: bool = False) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote in ("'", '"') and quote:
            return self.quoted(quote)
        found = (_REGEX_LITERAL if pattern else _LITERAL).match(self.text, self.at)
        if not found or not found.group():
            self.fail(self.text[self.at :])
        self.at = found.end()
        return found.group()

    def quoted(self, quote: str) -> str:
        """Everything up to the closing quote; a backslash before the quote character makes it part of the value."""
        parts: list[str] = []
        at = self.at + 1
        while at < len(self.text) and self.text[at] != quote:
            if self.text[at] == "\\" and self.text[at + 1 : at + 2] == quote:
                at += 1
            parts.append(self.text[at])
            at += 1
        if at >= len(self.text):
            self.fail(self.text[self.at :])
        self.at = at + 1
        return "".join(parts)

    def list_argument(self) -> list[str]:
        if not self.accept("["):
            self.fail(self.text[self.at :])
        values = [self.argument()]
        while self.accept(","):
            values.append(self.argument())
        if not self.accept("]"):
            self.fail(self.text[self.at :])
        return values

    def compile_term(self, subject: str, operator: str, arguments: list[str]) -> Predicate:
        if subject.startswith("attribute:"):
            return _attribute_term(subject.removeprefix("attribute:"), self.text_test(operator, arguments), operator)
        if subject == "task:group":
            self.dynamic = True
            if operator in ("exists", "!exists"):
                wanted = operator == "exists"
                return lambda s: bool(s.groups) == wanted
            test = self.text_test(operator, arguments)
            return lambda s: any(test(group) for group in s.groups)
        if subject == "agentConnected":
            return self.connected_term(operator, arguments)
        if subject == "ec2InstanceId":
            test = self.text_test(operator, arguments)
            return lambda s: bool(s.ec2_instance_id) and test(s.ec2_instance_id)
        return self.ordered_term(subject, operator, arguments[0])

    def connected_term(self, operator: str, arguments: list[str]) -> Predicate:
        if operator in ("==", "!=", "in", "!in") and any(a.lower() not in ("true", "false") for a in arguments):
            raise QueryError(f"The value of 'agentConnected' in the expression '{self.text}' must be true or false.")
        test = self.text_test(operator, [a.lower() for a in arguments] if operator not in ("=~", "!~") else arguments)
        answers = {True: test("true"), False: test("false")}
        return lambda s: answers[s.agent_connected]

    def ordered_term(self, subject: str, operator: str, argument: str) -> Predicate:
        compare = _ORDERING[operator]
        if subject == "agentVersion":
            version = _version(argument)
            if version is None:
                raise QueryError(f"The value '{argument}' in the expression '{self.text}' is not a version.")
            return lambda s: (seen := _version(s.agent_version)) is not None and compare(seen, version)
        if subject == "registeredAt":
            instant = _instant(argument)
            if instant is None:
                raise QueryError(f"The value '{argument}' in the expression '{self.text}' is not a date.")
            return lambda s: compare(s.registered_at, instant)
        if not _COUNT.fullmatch(argument):
            raise QueryError(f"The value '{argument}' in the expression '{self.text}' is not a number.")
        self.dynamic = True
        count = int(argument)
        return lambda s: compare(s.running, count)

    def text_test(self, operator: str, arguments: list[str]) -> Callable[[str], bool]:
        """The operator on a value that is there."""
        if operator in ("exists", "!exists"):
            return lambda value: operator == "exists"
        if operator in ("in", "!in"):
            members, inside = frozenset(arguments), operator == "in"
            return lambda value: (value in members) == inside
        argument = arguments[0]
        if operator in ("=~", "!~"):
            try:
                pattern = Pattern(argument)
            except PatternError as error:
                raise QueryError(f"The pattern '{argument}' in the expression '{self.text}' is invalid: {error}.") from error
            wanted = operator == "=~"
            return lambda value: pattern.matches(value) == wanted
        compare = _ORDERING[operator]
        if operator in ("==", "!="):
            return lambda value: compare(value, argument)
        return lambda value: compare(*_comparable(value, argument))


def _either(left: Predicate, right: Predicate) -> Predicate:
    return lambda s: left(s) or right(s)


def _both(left: Predicate, right: Predicate) -> Predicate:
    return lambda s: left(s) and right(s)


def _negation(inner: Predicate) -> Predicate:
    return lambda s: not inner(s)


def _attribute_term(name: str, test: Callable[[str], bool], operator: str) -> Predicate:
    """Every operator is false on an instance that lacks the attribute, except `!exists` (ecs-reference 3.7)."""
    absent = operator == "!exists"

    def matches(subject: Subject) -> bool:
        value = subject.attributes.get(name)
        return absent if value is None else test(value)

    return matches


def _comparable(value: str, argument: str) -> tuple[Any, Any]:
    """Both as numbers where both are decimal integers, else both as text."""
    if value.isdecimal() and argument.isdecimal():
        return int(value), int(argument)
    return value, argument


def _version(text: str) -> tuple[int, ...] | None:
    """The dotted numbers at the start of a version, without zeros at the end, so that 1.10 equals 1.10.0."""
    found = _VERSION.match(text)
    if not found:
        return None
    numbers = [int(part) for part in found.group(1).split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _instant(text: str) -> float | None:
    """Seconds since the epoch of YYYY-MM-DD with optional time and offset (UTC when there is none)."""
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
