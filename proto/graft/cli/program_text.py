"""A prompt program as people read it, and what differs between two of them."""

from __future__ import annotations

import difflib
import json
import re

_LINE_END = re.compile(r"(?<!\\)((?:\\\\)*\\n)(?!\",?$|\"$)")


def pretty(program: str) -> str:
    """The program's JSON over several lines."""
    return json.dumps(json.loads(program), indent=2, ensure_ascii=False)


def diff(first: str, second: str, first_name: str, second_name: str) -> list[str]:
    """The lines of a unified diff, empty where nothing differs. A text's own lines stand on lines of their own."""
    lines = difflib.unified_diff(_lines(first), _lines(second), first_name, second_name, lineterm="")
    return list(lines)


def painted(line: str) -> str:
    """A line of a diff in its colour, where a terminal shows it."""
    from graft.cli.terminal import paint

    if line.startswith(("+++", "---")):
        return paint(line, "bold")
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return paint(line, colour) if colour else line


def _lines(program: str) -> list[str]:
    lines: list[str] = []
    for line in pretty(program).split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        first, *others = _LINE_END.sub("\\1\n", line).split("\n")
        lines += [first, *(indent + other for other in others)]
    return lines
