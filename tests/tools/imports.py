"""Which module of the code imports which, read from the source: imports inside functions and for types count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE_ROOTS = ("proto", "adapters", "server", "training")
Graph = Mapping[str, frozenset[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The code's modules by name, packages under theirs; generated stubs too."""
    found = {}
    for folder in CODE_ROOTS:
        for path in sorted((root / folder / "graft").rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> Graph:
    """Each module, and the modules of `graft` that it names in an import."""
    known = modules(root)
    return {name: frozenset(one for one in _imported(path, known) if one != name) for name, path in known.items()}


def among(graph: Graph, parent: str) -> Graph:
    """The arrows between the children of one package: its files and its folders, each as a whole."""
    inside = f"{parent}."
    found: dict[str, set[str]] = {}
    for name, imported in graph.items():
        if name.startswith(inside):
            child = _child(name, inside)
            others = {_child(one, inside) for one in imported if one.startswith(inside)}
            found.setdefault(child, set()).update(others - {child})
    return {child: frozenset(others) for child, others in found.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Every strongly connected part of more than one node, sorted (Tarjan, 1972)."""
    numbers: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        numbers[node] = low[node] = len(numbers)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in numbers:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], numbers[other])
        if low[node] == numbers[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in numbers:
            visit(node)
    return sorted(found)


def _child(name: str, inside: str) -> str:
    return inside + name.removeprefix(inside).split(".")[0]


def _imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                whole = f"{node.module}.{one.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module
