"""What llguidance says of a grammar or a regular expression, in one line without its own excerpt of the text."""

from __future__ import annotations

import re

_MAX_CHARACTERS = 200
_EXCERPT = re.compile(r"\n *\d+ \| .*", re.DOTALL)
_PREFIXES = ("ERROR: ", "Failed to convert the grammar from GBNF to Lark: ")
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")
# The regex crate's, with a mark below the part that is wrong.
_REGEX = re.compile(r"invalid regex .*?regex parse error:\n {4}(.*)\n {4}( *)(\^+).*\nerror: (.*)", re.DOTALL)


def in_one_line(message: str, *, of_a_grammar: bool) -> str:
    """The problem and where it is: of a grammar with line and column, of a regular expression with the part of it."""
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    message = _REGEX.sub(_regex_problem, _EXCERPT.sub("", message))
    place = r"at line \1, column \2: " if of_a_grammar else ""
    return re.sub(r"\s+", " ", _PLACE.sub(place, message)).strip()[:_MAX_CHARACTERS]


def _regex_problem(found: re.Match[str]) -> str:
    text, before, marks, problem = found.groups()
    part = text[len(before) : len(before) + len(marks)]
    return f"{problem.strip()}: {part}" if part else problem.strip()
