"""What can be changed in a module: Cosmic Ray's operators, less what changes nothing."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from difflib import unified_diff
from random import Random

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

SAME_HERE = ("_Is_Eq", "_IsNot_NotEq", "_Eq_Is", "_NotEq_IsNot")
"""`is` for `==` makes no difference where the operands are None, booleans or enum members."""


@dataclass(frozen=True, slots=True)
class Mutant:
    module: str
    operator: str
    occurrence: int
    line: int
    source: str
    """Of the whole module, changed."""
    changed: str
    """The line as it became, stripped: how the list of the explained names it."""
    diff: str


def count_places(source: str) -> int:
    """Places of `source` where at least one operator applies."""
    return len(_places(source))


def sample(module: str, source: str, most: int, seed: int) -> list[Mutant]:
    """At most `most` mutants, one for each of as many places, chosen by `seed`."""
    random = Random(f"{seed} {module}")
    places = list(_places(source).values())
    random.shuffle(places)
    found: list[Mutant] = []
    for choices in places:
        if len(found) == most:
            break
        operator, occurrence, line = random.choice(choices)
        changed = mutate_code(source, get_operator(operator)(), occurrence)
        if changed is not None and _behaviour(changed) not in (None, _behaviour(source)):
            found.append(_mutant(module, operator, occurrence, line, source, changed))
    return found


def _places(source: str) -> dict[tuple[int, int], list[tuple[str, int, int]]]:
    """By line and column: the operators that apply, each with its number and the line."""
    tree = get_ast(source)
    places: dict[tuple[int, int], list[tuple[str, int, int]]] = defaultdict(list)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.endswith(SAME_HERE):
            continue
        nodes = (at for node in ast_nodes(tree) for at, _ in operator().mutation_positions(node))
        for occurrence, (line, column) in enumerate(nodes):
            places[line, column].append((name, occurrence, line))
    return places


class _Bare(ast.NodeTransformer):
    """Without what nobody evaluates: annotations, protocols; and without classes' decorators."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.decorator_list = []
        if any("Protocol" in ast.unparse(base) for base in node.bases):
            node.body = [ast.Pass()]
        return node


def _behaviour(source: str) -> str | None:
    """What runs of `source`; None if it is no Python."""
    try:
        return ast.dump(_Bare().visit(ast.parse(source)))
    except SyntaxError:
        return None


def _mutant(
    module: str, operator: str, occurrence: int, line: int, source: str, changed: str
) -> Mutant:
    diff = list(unified_diff(source.splitlines(), changed.splitlines(), module, module, "", "", 1))
    added = [each[1:].strip() for each in diff[3:] if each.startswith("+")]
    text = " ".join(added) or "(removed)"
    return Mutant(module, operator, occurrence, line, changed, text, "\n".join(diff))
