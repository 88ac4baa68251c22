"""Which series a PromQL expression reads, and which values of their labels it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORDS = re.compile(r"(?i)and|atan2|bool|by|group_left|group_right|ignoring|inf|nan|offset|on|or|unless|without")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_NAME = re.compile(r"[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")


def series(expression: str) -> set[str]:
    """The names of the series: what stands for neither a function, a label, a duration nor a number."""
    plain = _LABELS.sub(" ", _MATCHERS.sub(" ", expression))
    plain = re.sub(r"\[[^\]]*\]|\$\w+", " ", plain)
    plain = re.sub(r"\b\d[\w.]*", " ", plain)
    return {name for name in _NAME.findall(plain) if not _WORDS.fullmatch(name)}


def matchers(expression: str) -> Iterator[tuple[str, str]]:
    """Label and value of every matcher in it; the alternatives of a pattern one by one."""
    for inside in _MATCHERS.findall(expression):
        for label, operator, value in _MATCHER.findall(inside):
            for one in value.split("|") if "~" in operator else (value,):
                yield label, one
