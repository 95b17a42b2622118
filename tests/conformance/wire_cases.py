"""Requests made from AWS's model: valid ones, and ones that are wrong in exactly one place.

Owns: `Case`, `Generator`, `misfits`. Never sends anything and never looks at Homeport: the model is read as botocore ships it, so that what the
server makes of it is judged from outside. The same seed gives the same cases.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import botocore.loaders

MODEL: dict[str, Any] = botocore.loaders.Loader().load_service_model("ecs", "service-2")
SHAPES: dict[str, Any] = MODEL["shapes"]
OPERATIONS: tuple[str, ...] = tuple(sorted(MODEL["operations"]))

ANY, CONSTRAINT, TYPE, JSON = "any", "constraint", "type", "json"
"""What a case must be answered: as the operation models it; as a violated constraint; as a wrong type; as no JSON."""

ODD_TEXTS = (
    "", " ", "\x00", "\u2603", "\U0001f600" * 3, "a\u0301", "\u202eabc", "\ufeff", "\ud7ff", "x" * 256, "y" * 5_000, "%s%n{}", "../..", "a b", "arn:",
    "arn:a:b:c:d:e/f", "arn:aws:ecs:us-east-1:123456789012:", "arn:aws:ecs:eu-west-1:123456789012:cluster/default", "a/b/c", "/", "default/", ":",
    "web:0", "web:99999999999", "web:-1", "-1", "0", "9" * 400, "1e400", "NaN", "attribute:a in [", "((((", "null", "true", "\n",
    "\r\n\r\n", "\x7f\x80",
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2**31 - 1, -(2**31))
WRONG_TYPES: dict[str, tuple[Any, ...]] = {
    "string": (1, 1.5, True, [], {}, ["x"], {"a": "b"}),
    "integer": ("1", 1.5, True, [], {}, 2**31, -(2**31) - 1, 10**30, 1e300),
    "long": ("1", 1.5, False, [], {}, 2**63, 10**40),
    "double": ("1", True, [], {}),
    "float": ("1", True, [], {}),
    "boolean": ("true", 0, 1, [], {}),
    "timestamp": ("2020-01-01T00:00:00Z", True, [], {}),
    "blob": (1, True, [], {}),
    "list": ("x", 1, True, {}, {"0": "x"}),
    "map": ("x", 1, False, [], ["x"]),
    "structure": ("x", 1, True, [], [{}]),
}


class Case(NamedTuple):
    """One request and what it must be answered."""

    operation: str
    kind: str
    body: bytes
    expected: str = ANY
    place: str = ""
    """Where it is wrong, as AWS writes paths; "" when that has no place."""

    def __str__(self) -> str:
        return f"{self.operation} ({self.kind} at {self.place or 'top'}): {self.body[:1500].decode('utf-8', 'replace')}"


class Place(NamedTuple):
    """A place in a request: the keys that lead there, and the shape of what stands there."""

    keys: tuple[str | int, ...]
    shape: str
    required: bool
    in_list: bool

    @property
    def path(self) -> str:
        """As AWS writes it: `containerDefinitions.1.member.name`."""
        parts = (f"{key + 1}.member" if isinstance(key, int) else key for key in self.keys)
        return ".".join(parts)


class Generator:
    """Cases of one operation. `known`: member's name in lower case → values that mean something where the cases are sent."""

    def __init__(self, operation: str, *, seed: int, known: dict[str, list[Any]], good: dict[str, Any] | None = None) -> None:
        """`good`: members of a request that succeeds."""
        self.operation = operation
        self.good = good or {}
        self.input: str = MODEL["operations"][operation]["input"]["shape"]
        self.known = known
        self.chance = random.Random(f"{seed} {operation}")

    # valid values

    def value(self, shape_name: str, name: str, *, full: float, depth: int = 0) -> Any:
        """Something that the model allows: each optional member with probability `full`."""
        shape = SHAPES[shape_name]
        if shape.get("document"):
            return {"any": ["thing", 1, None, {"deep": [[[]]]}]}
        kind = shape["type"]
        if kind == "structure":
            return self.structure(shape, full=full, depth=depth)
        if kind == "list":
            least, most = shape.get("min", 0), min(shape.get("max", 3), 3)
            count = max(least, 1 if full >= 1 or depth == 0 else self.chance.randint(0, most))
            return [self.value(shape["member"]["shape"], name, full=full, depth=depth + 1) for _ in range(count)]
        if kind == "map":
            count = max(shape.get("min", 0), 1)
            keys = [f"{self.value(shape['key']['shape'], 'key', full=1)}{number or ''}" for number in range(count)]
            return {key: self.value(shape["value"]["shape"], "value", full=full, depth=depth + 1) for key in keys}
        return self.scalar(shape, name)

    def structure(self, shape: dict[str, Any], *, full: float, depth: int = 0) -> dict[str, Any]:
        """A structure with its required members, and each other one with probability `full`."""
        required = shape.get("required", ())
        return {
            member: self.value(reference["shape"], member, full=full, depth=depth + 1)
            for member, reference in shape["members"].items()
            if member in required or full >= 1 or self.chance.random() < full
        }

    def scalar(self, shape: dict[str, Any], name: str) -> Any:
        """A text, number or truth value within the shape's bounds."""
        kind = shape["type"]
        if kind == "string":
            if "enum" in shape:
                return self.chance.choice(shape["enum"])
            known = [text for text in self.known.get(name.lower(), ()) if isinstance(text, str)]
            least, most = shape.get("min", 0), shape.get("max", 1_000_000)
            text = self.chance.choice(known) if known else "x" * max(1, least)
            return text if least <= len(text) <= most and "pattern" not in shape else "x" * max(1, least)
        if kind in ("integer", "long"):
            least = int(shape.get("min", 1))
            known = [number for number in self.known.get(name.lower(), ()) if isinstance(number, int)]
            return self.chance.choice(known or [least, max(least, 1), int(min(shape.get("max", 100), 100))])
        if kind == "boolean":
            return self.chance.random() < 0.5
        return {"timestamp": 1_700_000_000.5, "double": float(shape.get("min", 0.5)), "float": 0.5, "blob": "eA=="}[kind]

    def request(self, full: float) -> dict[str, Any]:
        """A whole request."""
        return self.structure(SHAPES[self.input], full=full)

    # places

    def places(self, value: Any, shape_name: str, keys: tuple[str | int, ...] = (), required: bool = True, in_list: bool = False) -> Iterator[Place]:
        """Every place in a request that this generator made."""
        shape = SHAPES[shape_name]
        if keys:
            yield Place(keys, shape_name, required, in_list)
        if shape.get("document"):
            return
        if shape["type"] == "structure":
            for member, content in value.items():
                yield from self.places(content, shape["members"][member]["shape"], (*keys, member), member in shape.get("required", ()))
        elif shape["type"] == "list":
            for number, item in enumerate(value[:1]):
                yield from self.places(item, shape["member"]["shape"], (*keys, number), required=True, in_list=True)

    # cases

    def cases(self, count: int) -> list[Case]:
        """`count` cases: one of each kind at least, then a choice of all."""
        valid = [
            Case(self.operation, "minimal", encoded(self.request(0))),
            Case(self.operation, "full", encoded(self.request(1))),
            Case(self.operation, "nothing", b"{}"),
            Case(self.operation, "good", encoded({**self.request(0), **self.good})),
            *self.one_more(count // 4),
            *(Case(self.operation, "some members", encoded({**self.request(full), **self.good})) for full in (0.1, 0.3, 0.6)),
        ]
        wrong = [*self.wrong(), *self.no_json()]
        by_kind: dict[str, list[Case]] = {}
        for case in wrong:
            by_kind.setdefault(case.kind, []).append(case)
        chosen = [self.chance.choice(cases) for cases in by_kind.values()]
        rest = max(0, count - len(valid) - len(chosen))
        chosen += wrong if len(wrong) <= rest else self.chance.sample(wrong, rest)
        while len(valid) + len(chosen) < count:
            chosen.append(Case(self.operation, "odd", encoded(self.odd())))
        cases = valid + chosen
        self.chance.shuffle(cases)
        return cases[:count]

    def one_more(self, count: int) -> Iterator[Case]:
        """A good request with one member more, or with an odd value in one of its own."""
        members = list(SHAPES[self.input]["members"].items())
        for _ in range(count if members else 0):
            name, reference = self.chance.choice(members)
            good = {**self.request(0), **self.good}
            more = replaced({**good, name: None}, (name,), self.value(reference["shape"], name, full=self.chance.choice((0.2, 0.6, 1))))
            yield Case(self.operation, f"with {name}", encoded(more if self.chance.random() < 0.7 else self.odd(more)))

    def wrong(self) -> Iterator[Case]:
        """Every mutation of one place of a full request."""
        full = self.request(1)
        for place in list(self.places(full, self.input)):
            yield from self.wrong_at(full, place)
        yield from self.beside(full)

    def wrong_at(self, full: dict[str, Any], place: Place) -> Iterator[Case]:
        shape = SHAPES[place.shape]
        if shape.get("document"):
            yield self.case("document", full, place, "text")
            yield self.case("deep document", full, place, deep(40), CONSTRAINT)
            return
        kind = shape["type"]
        for value in WRONG_TYPES[kind]:
            yield self.case("wrong type", full, place, value, TYPE)
        if place.required:
            yield self.case("null where it must not be", full, place, None, CONSTRAINT)
            if not place.in_list:
                yield self.case("missing", full, place, ..., CONSTRAINT)
        else:
            yield self.case("null", full, place, None)
        if "enum" in shape:
            for value in ("", "NOT_ONE_OF_THEM", shape["enum"][0].lower() + "x", "\u2603"):
                yield self.case("wrong enum", full, place, value, CONSTRAINT)
        elif kind in ("string", "list"):
            yield from self.lengths(full, place, shape)
        elif kind in ("integer", "long", "double"):
            yield from self.ranges(full, place, shape)

    def lengths(self, full: dict[str, Any], place: Place, shape: dict[str, Any]) -> Iterator[Case]:
        item = "x" if shape["type"] == "string" else None
        if item is None and shape["type"] == "list":
            item = [self.value(shape["member"]["shape"], "item", full=0)]
        if shape.get("min"):
            yield self.case("too short", full, place, item * (int(shape["min"]) - 1), CONSTRAINT)  # type: ignore[operator]  # a text or a list
        if "max" in shape and shape["max"] < 100_000:
            yield self.case("too long", full, place, item * (int(shape["max"]) + 1), CONSTRAINT)  # type: ignore[operator]  # a text or a list
        elif shape["type"] == "list":
            yield self.case("many", full, place, item * self.chance.choice((11, 51, 101, 1001)))  # type: ignore[operator]  # a list
        if shape["type"] == "list":
            yield self.case("empty list", full, place, [], CONSTRAINT if shape.get("min") else ANY)
        elif "pattern" in shape:
            yield self.case("against the pattern", full, place, "\x00 \u2603", CONSTRAINT)
        elif not shape.get("min") and "max" not in shape:
            for text in self.chance.sample(ODD_TEXTS, 3):
                yield self.case("odd text", full, place, text)

    def ranges(self, full: dict[str, Any], place: Place, shape: dict[str, Any]) -> Iterator[Case]:
        if "min" in shape:
            yield self.case("too small", full, place, shape["min"] - 1, CONSTRAINT)
        if "max" in shape and shape["max"] < 2**31 - 1:
            yield self.case("too large", full, place, shape["max"] + 1, CONSTRAINT)
        for number in self.chance.sample(ODD_NUMBERS, 2):
            within = shape.get("min", number) <= number <= shape.get("max", number)
            yield self.case("odd number", full, place, number, ANY if within else CONSTRAINT)

    def beside(self, full: dict[str, Any]) -> Iterator[Case]:
        """What stands beside or around the members."""
        minimal = self.request(0)
        yield Case(self.operation, "unknown member", encoded({**minimal, "noSuchMember": {"a": [1, None]}, "": 0, "\u2603": "x"}))
        yield Case(self.operation, "unknown deep member", encoded({**minimal, "noSuchMember": deep(200)}))
        yield Case(self.operation, "other case", encoded({name.upper(): value for name, value in full.items()}))
        yield Case(self.operation, "every member null", encoded(dict.fromkeys(SHAPES[self.input]["members"])))
        name = next(iter(full), "x")
        yield Case(
            self.operation, "a member twice", b"{" + b",".join(json.dumps(name).encode() + b":" + encoded(full.get(name)) for _ in "ab") + b"}"
        )

    def no_json(self) -> Iterator[Case]:
        """Bodies that are no JSON object, or hardly one."""
        good = encoded(self.request(1))
        for body in (b"[]", b'"x"', b"1", b"true"):
            yield Case(self.operation, "no object", body, TYPE)
        for body in (
            b"",
            b"{",
            b"{]",
            good[:-1],
            good[: len(good) // 2],
            good + b"}",
            b"\xff\xfe",
            b"'{}'",
            b'{"a":01}',
            b'{"a":NaN}',
            b'{"\xff":1}',
        ):
            yield Case(self.operation, "no JSON", body, JSON)
        for body in (b"[" * 20_000, b'{"a":' * 20_000, b'{"x":"\\ud800"}', b'{"x":' + b"9" * 5_000 + b"}", b'{"x":1e999}', b"null"):
            yield Case(self.operation, "hardly JSON", body)

    def odd(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """A valid request with odd texts and numbers in up to three places."""
        request = request or {**self.request(self.chance.choice((0.2, 0.5, 1))), **self.good}
        free = [place for place in self.places(request, self.input) if _is_free(SHAPES[place.shape])]
        for place in self.chance.sample(free, min(len(free), 3)):
            odd = ODD_TEXTS if SHAPES[place.shape]["type"] == "string" else ODD_NUMBERS
            request = replaced(request, place.keys, self.chance.choice(odd))
        return request

    def case(self, kind: str, full: dict[str, Any], place: Place, value: Any, expected: str = ANY) -> Case:
        """`full` with `value` at a place (`...`: without it)."""
        return Case(self.operation, kind, encoded(replaced(full, place.keys, value)), expected, place.path)


def replaced(value: Any, keys: tuple[str | int, ...], new: Any) -> Any:
    """A copy of `value` with `new` where the keys lead."""
    if not keys:
        return new
    key, *rest = keys
    if isinstance(value, list):
        return [replaced(item, tuple(rest), new) if number == key else item for number, item in enumerate(value)]
    if new is ... and not rest:
        return {name: content for name, content in value.items() if name != key}
    return {**value, key: replaced(value[key], tuple(rest), new)}


def deep(depth: int) -> Any:
    """Lists in lists."""
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


def encoded(value: Any) -> bytes:
    """As JSON; half of the world's clients escape what is not ASCII, so both forms are sent elsewhere."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _is_free(shape: dict[str, Any]) -> bool:
    return shape["type"] in ("string", "integer") and not shape.keys() & {"enum", "min", "max", "pattern"}


def misfits(value: Any, shape_name: str, path: str = "") -> Iterator[str]:
    """Where an answer is not what the model says that it is."""
    shape = SHAPES[shape_name]
    kind = shape["type"]
    if shape.get("document"):
        return
    python: Any = {"structure": dict, "list": list, "map": dict, "string": str, "integer": int, "long": int, "boolean": bool}.get(kind, (int, float))
    if not isinstance(value, python) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{path}: {value!r} is no {kind}"
    elif kind == "structure":
        yield from (f"{path}.{name} is no member" for name in value if name not in shape["members"])
        yield from (f"{path}.{name} is missing" for name in shape.get("required", ()) if name not in value)
        for name, content in value.items():
            if name in shape["members"]:
                yield from misfits(content, shape["members"][name]["shape"], f"{path}.{name}")
    elif kind == "list":
        for number, item in enumerate(value):
            yield from misfits(item, shape["member"]["shape"], f"{path}[{number}]")
    elif kind == "map":
        for key, item in value.items():
            yield from misfits(item, shape["value"]["shape"], f"{path}[{key!r}]")
    elif "enum" in shape and value not in shape["enum"]:
        yield f"{path}: {value!r} is none of {shape['enum']}"
