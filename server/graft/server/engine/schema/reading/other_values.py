"""Everything but certain values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from graft.server.engine.schema.reading.shapes import (
    ANYTHING,
    NOTHING,
    Array,
    Literal,
    Number,
    Object,
    Shape,
    Shapes,
    String,
    Term,
    but,
)
from graft.server.engine.schema.reading.values import exact, plain, type_of

if TYPE_CHECKING:
    from graft.server.engine.schema.reading.reading import Reader


def other_than(reader: Reader, values: list[Any], number: int) -> Shapes:
    """Everything but these values: other types, and what each type has besides."""
    by_type: dict[str, list[Any]] = {}
    for value in map(plain, values):
        by_type.setdefault(type_of(value), []).append(value)
    found = but(*by_type)
    if "boolean" in by_type:
        found += tuple(Literal(text=json.dumps(value)) for value in (True, False) if value not in by_type["boolean"])
    if "string" in by_type:
        found += (String(excluded=frozenset(by_type["string"])),)
    if "number" in by_type:
        found += _between(sorted({exact(value) for value in by_type["number"]}))
    for kind, anything in (("array", Array()), ("object", Object())):
        if kind in by_type:
            others: Shapes = (anything,)
            for value in by_type[kind]:
                others = reader.meet(others, tuple(_other_parts(reader, value, number)))
            found += others
    return found


def _between(values: list[Fraction]) -> Shapes:
    """The open ranges around sorted values."""
    lows, highs = [None, *values], [*values, None]
    return tuple(
        Number(low=low, low_open=low is not None, high=high, high_open=high is not None)
        for low, high in zip(lows, highs, strict=True)
    )


def _other_parts(reader: Reader, value: Any, number: int) -> Iterator[Shape]:
    """Arrays of another length or with another item; objects without a name, with one more or with another value."""
    size = len(value)
    if isinstance(value, list):
        yield Array(min_items=size + 1)
        if size:
            yield Array(max_items=size - 1)
        for index, item in enumerate(value):
            other: Term = (reader.document.made({"const": item}, number), True)
            yield Array(min_items=size, max_items=size, prefix=(*[ANYTHING] * index, frozenset({other})))
        return
    yield Object(min_properties=size + 1)
    for name, item in value.items():
        other = (reader.document.made({"const": item}, number), True)
        yield Object(properties=((name, NOTHING),))
        yield Object(properties=((name, frozenset({other})),), required=frozenset({name}))
