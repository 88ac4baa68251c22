"""Patterns in the automata's dialect: what ECMA and Python read as plain characters of a class stays plain there.

The automata's own dialect (Rust's `regex`) nests classes: `[[:alpha:]]`, `[a-z&&[^b]]`, `[a--b]`, `[a~~b]`.
"""

from __future__ import annotations

import re

from graft.server.engine.schema.patterns.remembering import remembered

_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_MEMBER = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)|.", re.DOTALL)
_SIGNS = frozenset("[]&~-^")
_DROPPED = "\\x01"


@remembered(maxsize=4096)
def plain(pattern: str) -> str:
    """The pattern with every sign in a class escaped that would nest classes or set them off."""
    return _CLASS.sub(lambda found: _class(found[0]) if found[0][0] == "[" else found[0], pattern)


@remembered(maxsize=4096)
def quotable(pattern: str) -> str:
    """The same, narrowed for JSON's quotes.

    llguidance writes a class of all control characters as a backslash and any letter of an escape, so that it allows
    `\\"` and `\\\\` too. A class without these two characters therefore gives up U+0001.
    """
    return _CLASS.sub(lambda found: _narrowed(found[0]) if found[0][0] == "[" else found[0], plain(pattern))


def _class(text: str) -> str:
    head = 2 if text.startswith("[^") else 1
    members = _MEMBER.findall(text[head:-1])
    written: list[str] = []
    index = 0
    while index < len(members):
        written.append(_escaped(members[index]))
        if members[index + 1 : index + 2] == ["-"] and index + 2 < len(members):
            written += ["-", _escaped(members[index + 2])]
            index += 2
        index += 1
    return f"{text[:head]}{''.join(written)}]"


def _escaped(member: str) -> str:
    return f"\\{member}" if member in _SIGNS else member


def _narrowed(text: str) -> str:
    try:
        found = re.compile(text)
    except re.error:
        return text
    controls = [found.match(chr(code)) is not None for code in range(32)]
    if not controls[1] or sum(controls) == 1 or (found.match('"') and found.match("\\")):
        return text
    return f"[{text}&&[^{_DROPPED}]]"
