"""Why a JSON Schema cannot be kept to."""

from __future__ import annotations

import json


class SchemaRefused(ValueError):
    """A schema that no reply could be held to: the keyword, its place as a JSON pointer, and the remedy."""

    def __init__(self, problem: str, *, pointer: str | None = None, keyword: str | None = None) -> None:
        self.keyword = keyword
        self.pointer = pointer
        place = f"{pointer or ''}/{escaped(keyword)}" if keyword else pointer
        super().__init__(problem if place is None else f"at `#{place}`: {problem}")


def escaped(part: object) -> str:
    """One part of a JSON pointer (RFC 6901) in one line, cut where a name is very long."""
    text = str(part).replace("~", "~0").replace("/", "~1")[:60]
    return text if text.isprintable() else json.dumps(text)[1:-1]


def not_enforced(keyword: str, pointer: str, why: str) -> SchemaRefused:
    return SchemaRefused(f"`{keyword}` is not enforced {why}", pointer=pointer, keyword=keyword)
