"""JMESPath with bounds: what an expression may be, and how much work one evaluation may do.

Owns: `Expression`, `Budget`, `ExpressionError`. Never knows a rule (`judgement.py`). The language is the library's, as in `aws --query`; what is
added is that every step, and every element that a function or comparison looks at, is paid for out of a budget: an expression of a few characters
can otherwise double a list again and again. JMESPath has no regular expressions, so there is nothing to backtrack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.lexer import Lexer
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter, _Expression

CHARACTERS_MAX: Final = 4096
TOKENS_MAX: Final = 1000
NESTING_MAX: Final = 24
"""Brackets within brackets."""
TREE_DEPTH_MAX: Final = 100
STEPS_MAX: Final = 50_000
"""Of one evaluation: nodes visited and elements looked at; a large task definition takes some hundreds."""
TEXT_CHARACTERS_A_STEP: Final = 16
"""So many characters of a text cost as much as one element."""

_OPENING: Final = frozenset(("lparen", "lbracket", "lbrace", "filter"))
_CLOSING: Final = frozenset(("rparen", "rbracket", "rbrace"))


class ExpressionError(Exception):
    """An expression that is none, is too large, or cannot say anything of an object. The message tells why."""


class Budget:
    """Steps that may still be taken."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Take `steps`. Raises ExpressionError when they are more than there are."""
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionError("its evaluation takes too many steps")


class Expression:
    """A compiled expression."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for what is no JMESPath, names a function that there is not, or is too large."""
        self.text = text
        self._tree = _parsed(text)

    def evaluate(self, document: Any, budget: Budget) -> Any:
        """What it says of a JSON value. Raises ExpressionError when that cannot be said or `budget` is used up."""
        try:
            return _Bounded(budget).visit(self._tree, document)
        except ExpressionError:
            raise
        except JMESPathError as error:
            raise ExpressionError(_sentence(error)) from None
        except Exception as error:  # the library lets Python's own errors through: 1 < 'a', an index too large, nesting too deep
            raise ExpressionError(f"{type(error).__name__}: {error}") from None


class _Bounded(TreeInterpreter):  # type: ignore[misc]  # the library has no types
    """The library's interpreter, each of whose steps is paid for before it can grow."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def visit(self, node: Any, value: Any) -> Any:
        """One node; a list that comes out costs its length."""
        self._budget.spend(1)
        found = super().visit(node, value)
        if type(found) is list:
            self._budget.spend(len(found))
        return found

    def visit_comparator(self, node: Any, value: Any) -> Any:
        """Equality looks at all that is in both."""
        sides = [self.visit(child, value) for child in node["children"]]
        for side in sides:
            self._pay_for(side)
        return super().visit_comparator({**node, "children": [_literal(side) for side in sides]}, value)

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        """A function looks at all of its arguments; `join` puts its separator between all elements."""
        arguments = [self.visit(child, value) for child in node["children"]]
        for argument in arguments:
            self._pay_for(argument)
        if node["value"] == "join" and len(arguments) == 2 and isinstance(arguments[0], str) and isinstance(arguments[1], list):
            self._budget.spend(len(arguments[0]) // TEXT_CHARACTERS_A_STEP * len(arguments[1]))
        return self._functions.call_function(node["value"], arguments)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        """Paid for before the lists are put together."""
        found = self.visit(node["children"][0], value)
        if isinstance(found, list):
            self._budget.spend(sum(len(item) for item in found if isinstance(item, list)))
        return super().visit_flatten({**node, "children": [_literal(found)]}, value)

    def _pay_for(self, value: Any) -> None:
        """The size of `value`, each part counted as often as it is reached."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                self._budget.spend(1 + len(item) // TEXT_CHARACTERS_A_STEP)
            elif isinstance(item, list | dict):
                self._budget.spend(1 + len(item))
                waiting.extend(item.values() if isinstance(item, dict) else item)
            elif isinstance(item, _Expression):
                continue  # paid for at each of its uses
            else:
                self._budget.spend(1)


def _literal(value: Any) -> dict[str, Any]:
    return {"type": "literal", "value": value, "children": []}


def _parsed(text: str) -> Any:
    if not text.strip():
        raise ExpressionError("it is empty")
    if len(text) > CHARACTERS_MAX:
        raise ExpressionError(f"it has more than {CHARACTERS_MAX} characters")
    try:
        _check_tokens(text)
        tree = Parser().parse(text).parsed
    except ExpressionError:
        raise
    except JMESPathError as error:
        raise ExpressionError(_sentence(error)) from None
    except Exception as error:  # a number of thousands of digits, a literal nested too deeply: no JMESPath error, and no JMESPath either
        raise ExpressionError(f"{type(error).__name__}: {error}") from None
    _check_tree(tree)
    return tree


def _check_tokens(text: str) -> None:
    depth = 0
    for count, token in enumerate(Lexer().tokenize(text), 1):
        depth += (token["type"] in _OPENING) - (token["type"] in _CLOSING)
        if count > TOKENS_MAX:
            raise ExpressionError(f"it has more than {TOKENS_MAX} parts")
        if depth > NESTING_MAX:
            raise ExpressionError(f"its brackets are nested deeper than {NESTING_MAX}")


def _check_tree(tree: Any) -> None:
    """Depth, and that each function exists and takes that many arguments: a wrong name is better told now than at every evaluation."""
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > TREE_DEPTH_MAX:
            raise ExpressionError(f"it is nested deeper than {TREE_DEPTH_MAX}")
        if node["type"] == "function_expression":
            _check_function(node["value"], len(node["children"]))
        waiting.extend((child, depth + 1) for child in _children(node))


def _children(node: Any) -> Iterator[Any]:
    return (child for child in node["children"] if isinstance(child, dict) and "type" in child)


def _check_function(name: str, count: int) -> None:
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise ExpressionError(f"there is no function {name}()")
    signature = known["signature"]
    variadic = bool(signature and signature[-1].get("variadic"))
    if count < len(signature) or (count > len(signature) and not variadic):
        raise ExpressionError(f"{name}() takes {'at least ' if variadic else ''}{len(signature)} arguments, not {count}")


def _sentence(error: Exception) -> str:
    """The library's words on one line, without the picture of the place."""
    return " ".join(str(error).split("\n")[0].split())[:300]
