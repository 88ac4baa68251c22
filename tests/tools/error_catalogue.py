"""Every error that the code can say, by file and class; `python -m tests.tools.error_catalogue` prints the list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tools.imports import CODE_ROOTS, ROOT

# Raised at programmers, not at users: they end in a traceback on purpose.
_BUGS = {"AssertionError", "NotImplementedError", "RuntimeError", "StopIteration", "TypeError", "SystemExit"}


@dataclass(frozen=True, kw_only=True)
class Words:
    """What one `raise` says; values that are filled in stand as `{expression}`."""

    place: str
    error: str
    text: str

    def __str__(self) -> str:
        return f"{self.place} {self.error}: {self.text}"


def catalogue(root: Path = ROOT) -> Iterator[Words]:
    """All that is raised with words of its own, file by file."""
    for folder in CODE_ROOTS:
        for path in sorted((root / folder).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")) and "bench" not in path.parts:
                yield from _of_file(path, path.relative_to(root).as_posix())


def _of_file(path: Path, name: str) -> Iterator[Words]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = ast.unparse(node.exc.func).rpartition(".")[2]
            text = next(filter(None, map(_text, node.exc.args)), "")
            if text and error not in _BUGS:
                yield Words(place=f"{name}:{node.lineno}", error=error, text=text)


def _text(node: ast.expr) -> str:
    """A string's words, whatever it is put together from; nothing for other values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            "{" + ast.unparse(part.value) + "}" if isinstance(part, ast.FormattedValue) else _text(part)
            for part in node.values
        )
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return ""


if __name__ == "__main__":
    for words in catalogue():
        print(words)
