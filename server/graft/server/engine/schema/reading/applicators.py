"""Keywords that apply schemas to the same value: choices, conditions, references, and what they leave unjudged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from graft.server.engine.schema.reading.shapes import (
    ANY,
    ANYTHING,
    NOTHING,
    Array,
    Object,
    Rest,
    Shape,
    Shapes,
    Terms,
    but,
)

if TYPE_CHECKING:
    from graft.server.engine.schema.reading.reading import Reader

Applicator = Callable[["Reader", int, Mapping[str, Any]], Shapes]


def judged(keyword: str, *, negated: bool) -> Applicator:
    """What the schema under the keyword allows; negated, what it does not."""
    return lambda reader, number, _: reader.judged((reader.document.below(number, keyword), negated))


def target(keyword: str, *, negated: bool) -> Applicator:
    """The same of what a reference points to."""
    return lambda reader, number, _: reader.judged((reader.document.target(number, keyword), negated))


def every(keyword: str, *, negated: bool) -> Applicator:
    """What all schemas in the keyword's list allow, or what none of them does."""

    def read(reader: Reader, number: int, schema: Mapping[str, Any]) -> Shapes:
        found = ANY
        for part in _parts(reader, number, schema, keyword, negated):
            found = reader.meet(found, part)
        return found

    return read


def some(keyword: str, *, negated: bool) -> Applicator:
    """What one schema of the keyword's list allows, or what one of them does not."""

    def read(reader: Reader, number: int, schema: Mapping[str, Any]) -> Shapes:
        parts = _parts(reader, number, schema, keyword, negated)
        return tuple(dict.fromkeys(shape for part in parts for shape in part))

    return read


def _parts(reader: Reader, number: int, schema: Mapping[str, Any], keyword: str, negated: bool) -> Iterator[Shapes]:
    for index in range(len(schema[keyword])):
        yield reader.judged((reader.document.below(number, keyword, index), negated))


def _one_of(reader: Reader, number: int, schema: Mapping[str, Any]) -> Shapes:
    """Each choice without what another allows too: most exclude each other as they are."""
    choices = [reader.document.below(number, "oneOf", index) for index in range(len(schema["oneOf"]))]
    found: list[Shape] = []
    for choice in choices:
        part = reader.judged((choice, False))
        for other in choices:
            if other != choice and reader.meet(part, reader.judged((other, False))):
                part = reader.meet(part, reader.judged((other, True)))
        found += part
    return tuple(dict.fromkeys(found))


def _if_then_else(reader: Reader, number: int, schema: Mapping[str, Any]) -> Shapes:
    condition = reader.document.below(number, "if")
    fits: Shapes = reader.judged((condition, False))
    if "then" in schema:
        fits = reader.meet(fits, reader.judged((reader.document.below(number, "then"), False)))
    if "then" not in schema and "else" not in schema:
        return ANY
    other: Shapes = reader.judged((condition, True))
    if "else" in schema:
        other = reader.meet(other, reader.judged((reader.document.below(number, "else"), False)))
    return tuple(dict.fromkeys(fits + other))


def _dependents(keyword: str) -> Applicator:
    """`dependentRequired`, `dependentSchemas` and the older `dependencies`: a name is absent, or more holds."""

    def read(reader: Reader, number: int, schema: Mapping[str, Any]) -> Shapes:
        found = ANY
        for name, wanted in schema[keyword].items():
            absent = Object(properties=((name, NOTHING),))
            if isinstance(wanted, list):
                present: Shapes = (Object(required=frozenset({name, *wanted})),)
            else:
                more = reader.judged((reader.document.below(number, keyword, name), False))
                present = reader.meet((Object(required=frozenset({name})),), more)
            found = reader.meet(found, (*but("object"), absent, *present))
        return found

    return read


def _others_are(shape: Shape, rest: Terms) -> Shape:
    if not isinstance(shape, Object) or shape.evaluated is None:
        return shape
    known = frozenset[str]().union(*(rule.known for rule in shape.evaluated))
    patterns = tuple((pattern, ANYTHING) for rule in shape.evaluated for pattern, _ in rule.patterns)
    listed = tuple((name, ANYTHING) for name in sorted(known))
    return Object(
        properties=listed,
        rests=(Rest(known=known, patterns=patterns, additional=rest),),
        open=rest != NOTHING,
        evaluated=None,
    )


def _later_are(shape: Shape, rest: Terms) -> Shape:
    if not isinstance(shape, Array) or shape.evaluated is None:
        return shape
    return Array(prefix=(ANYTHING,) * shape.evaluated, items=rest, evaluated=None)


UNEVALUATED: dict[str, Callable[[Shape, Terms], Shape]] = {
    "unevaluatedProperties": _others_are,
    "unevaluatedItems": _later_are,
}

IN_PLACE: dict[str, Applicator] = {
    "$ref": target("$ref", negated=False),
    "$dynamicRef": target("$dynamicRef", negated=False),
    "$recursiveRef": target("$recursiveRef", negated=False),
    "allOf": every("allOf", negated=False),
    "anyOf": some("anyOf", negated=False),
    "oneOf": _one_of,
    "not": judged("not", negated=True),
    "if": _if_then_else,
    "dependentRequired": _dependents("dependentRequired"),
    "dependentSchemas": _dependents("dependentSchemas"),
    "dependencies": _dependents("dependencies"),
}
