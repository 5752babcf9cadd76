"""`successCondition`, as in Argo: `result[0] < 0.05`. A small language, checked when read. Pure.

`result` is the query's values. Numbers, comparisons, `and`, `or`, `not`, + - * /, `len(result)` and
`isNaN(...)`; nothing else can be said, so nothing else can happen.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Final

MAX_CHARS = 500

Value = float | bool | Sequence[float]

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: Final[dict[str, Callable[[Value], Value]]] = {
    "len": lambda value: float(len(value)) if isinstance(value, Sequence) else 1.0,
    "isNaN": lambda value: math.isnan(_number(value)),
}


class Undecidable(ValueError):
    """The values do not fit the condition: no value came, or one that is not a number."""


class Condition:
    """A condition that was understood."""

    def __init__(self, text: str) -> None:
        """Raises ValueError saying what is not understood."""
        self.text = text
        if len(text) > MAX_CHARS:
            raise ValueError(f"successCondition has {len(text)} characters, at most {MAX_CHARS}")
        words = text.replace("&&", " and ").replace("||", " or ").strip()
        try:
            self._tree = ast.parse(words, mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ValueError(f"successCondition {text!r}: not a condition") from error
        _check(self._tree, text)

    def holds(self, result: Sequence[float]) -> bool:
        """Raises Undecidable where the values do not fit."""
        try:
            answer = _evaluate(self._tree, result)
        except (IndexError, TypeError, ArithmeticError) as error:
            raise Undecidable(
                f"{self.text!r} cannot be said of {len(result)} values: {error}"
            ) from error
        if not isinstance(answer, bool):
            raise Undecidable(f"{self.text!r} is not a yes or no")
        return answer


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.BoolOp(values=values):
            parts = values
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            parts = [operand]
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            parts = [left, *rest]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            parts = [left, right]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            parts = [argument]
        case ast.Subscript(value=ast.Name(id="result"), slice=ast.Constant(value=int())):
            parts = []
        case ast.Name(id="result"):
            parts = []
        case ast.Constant(value=int() | float()):
            parts = []
        case _:
            raise ValueError(
                f"successCondition {text!r}: expected comparisons of `result` and numbers, "
                f"such as result[0] < 0.05; got {ast.unparse(node)!r}"
            )
    for part in parts:
        _check(part, text)


def _evaluate(node: ast.expr, result: Sequence[float]) -> Value:  # noqa: C901, PLR0911  a table
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_truth(_evaluate(one, result)) for one in values)
        case ast.BoolOp(values=values):
            return any(_truth(_evaluate(one, result)) for one in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(_evaluate(operand, result))
        case ast.UnaryOp(operand=operand):
            return -_number(_evaluate(operand, result))
        case ast.Compare(left=left, ops=ops, comparators=rest):
            numbers = [_number(_evaluate(one, result)) for one in (left, *rest)]
            if any(math.isnan(number) for number in numbers):
                raise TypeError("one is not a number")  # NaN != 5 would be a yes
            pairs = zip(ops, numbers, numbers[1:], strict=False)
            return all(_COMPARISONS[type(op)](one, other) for op, one, other in pairs)
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _number(_evaluate(left, result)), _number(_evaluate(right, result))
            return _ARITHMETIC[type(op)](one, other)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _FUNCTIONS[name](_evaluate(argument, result))
        case ast.Subscript(slice=ast.Constant(value=int() as index)):
            return result[index]
        case ast.Name():
            return result
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case _:
            raise AssertionError(f"{ast.dump(node)} was checked")


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected a yes or no")
    return value


def _number(value: Value) -> float:
    """A query with one value may be written without [0]."""
    if isinstance(value, Sequence):
        if len(value) != 1:
            raise TypeError(f"expected one value, got {len(value)}")
        value = value[0]
    return float(value)
