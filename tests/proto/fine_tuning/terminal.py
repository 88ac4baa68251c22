"""What a terminal shows of what was written to it: of ECMA-48 as much as `graft` uses."""

from __future__ import annotations

import re

_PART = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])|([^\x1b])", re.DOTALL)


def displayed(written: str) -> list[str]:
    """The lines in the end, without colours; nothing scrolls away."""
    lines, row, column = [""], 0, 0
    for found in _PART.finditer(written):
        private, number, what, character = found.groups()
        if character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif character == "\r":
            column = 0
        elif character is not None:
            lines[row] = f"{lines[row][:column]:<{column}}{character}{lines[row][column + 1 :]}"
            column += 1
        elif what == "A":
            row = max(0, row - int(number or 1))
        elif what == "H":
            row = column = 0
        elif what == "K":
            lines[row] = lines[row][:column]
        elif what == "J" and number == "2":
            lines = [""] * len(lines)
        elif what == "J":
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        else:
            assert what == "m" or private, f"{found[0]!r} is not known here"
    while lines and not lines[-1]:
        lines.pop()
    return lines
