"""Whether a grammar has a text that ends: `start: "a" start` has none, and a reply under it only stops at its limit."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|[ \t\r]+)|(?P<text>"(?:\\.|[^"\\\n])*"i?|/(?:\\.|[^/\\\n])+/[a-z]*|<[^>\s]+>)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<count>\{\s*\d*\s*,?\s*\d*\s*\})|(?P<sign>\.\.|[()|:?*+\n])"""
)
_HEAD = re.compile(r"^[?!]?([A-Za-z_][A-Za-z0-9_-]*)(?:\.-?\d+)?[ \t]*:", re.MULTILINE)


class _Unread(Exception):
    """The grammar uses what is not looked into here; it is taken to end."""


def never_ends(grammar: str) -> bool:
    """Whether no finite text follows a grammar in llguidance's Lark, where it is made of plain rules; False else."""
    try:
        rules = _rules(grammar.removeprefix("%llguidance {}"))
        ending: set[str] = set()
        while more := {name for name, body in rules.items() if name not in ending and _Body(body, rules, ending).ends}:
            ending |= more
    except (_Unread, RecursionError):
        return False
    return "start" in rules and "start" not in ending


def _rules(grammar: str) -> Mapping[str, list[str]]:
    heads = list(_HEAD.finditer(grammar))
    ends = [head.start() for head in heads[1:]] + [len(grammar)]
    if not heads or _tokens(grammar[: heads[0].start()]) or len({head[1] for head in heads}) < len(heads):
        raise _Unread
    return {head[1]: _tokens(grammar[head.end() : end]) for head, end in zip(heads, ends, strict=True)}


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    index = 0
    while index < len(text):
        token = _TOKEN.match(text, index)
        if token is None:
            raise _Unread
        if token.lastgroup != "skip" and token[0] != "\n":
            found.append(token[0])
        index = token.end()
    return found


class _Body:
    """One rule's body, read once with the rules that are known to end."""

    def __init__(self, tokens: list[str], rules: Mapping[str, list[str]], ending: set[str]) -> None:
        self._tokens, self._rules, self._ending = tokens, rules, ending
        self._index = 0
        self.ends = self._choice()
        if self._next() is not None:
            raise _Unread

    def _next(self) -> str | None:
        return self._tokens[self._index] if self._index < len(self._tokens) else None

    def _choice(self) -> bool:
        found = self._sequence()
        while self._next() == "|":
            self._index += 1
            found = self._sequence() or found
        return found

    def _sequence(self) -> bool:
        found = True
        while (token := self._next()) is not None and token not in "|)":
            found = self._item(token) and found
        return found

    def _item(self, token: str) -> bool:
        self._index += 1
        if token == "(":
            found = self._choice()
            if self._next() != ")":
                raise _Unread
            self._index += 1
        elif token[0].isalpha() or token[0] == "_":
            found = token not in self._rules or token.lstrip("_")[:1].isupper() or token in self._ending
        elif token[0] in '"/<' or token == "..":
            found = True
        else:
            raise _Unread
        return self._repeated(found)

    def _repeated(self, found: bool) -> bool:
        while (token := self._next()) is not None and (token in "?*+" or token[0] == "{"):
            found = found or token in "?*" or re.match(r"\{\s*(0|,)", token) is not None
            self._index += 1
        return found
