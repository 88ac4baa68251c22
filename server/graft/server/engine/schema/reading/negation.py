"""What a schema forbids, as shapes: `not`, `else`, and the choices of `oneOf` that must not hold.

Where only part of an opposite can be said (an unnamed property that fails), that part is taken: replies stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graft.server.engine.schema.patterns import patterns
from graft.server.engine.schema.reading import applicators, typed
from graft.server.engine.schema.reading.other_values import other_than
from graft.server.engine.schema.reading.shapes import (
    ANY,
    ANYTHING,
    NOTHING,
    Array,
    Contains,
    Number,
    Object,
    Shape,
    Shapes,
    String,
    Terms,
    but,
    unjudged,
)
from graft.server.engine.schema.refusal import SchemaRefused, not_enforced

if TYPE_CHECKING:
    from graft.server.engine.schema.reading.reading import Reader

_Schema = Mapping[str, Any]


def opposite(reader: Reader, number: int) -> Shapes:
    """Everything that the schema at a place does not allow. Raises `SchemaRefused` where no part of it can be said."""
    schema = reader.document.places[number].schema
    if isinstance(schema, bool):
        return () if schema else ANY
    found: list[Shape] = []
    refused: SchemaRefused | None = None
    for keyword, of in _OPPOSITES.items():
        if keyword in schema:
            try:
                found += of(reader, number, schema)
            except SchemaRefused as error:
                refused = error
    if refused is not None and not found:
        raise refused
    return tuple(dict.fromkeys(unjudged(shape) for shape in found))


def _types(reader: Reader, number: int, schema: _Schema) -> Shapes:
    types = schema["type"]
    types = {types} if isinstance(types, str) else set(types)
    fractions: Shapes = (Number(whole=False),) if "integer" in types and "number" not in types else ()
    return but(*("number" if name == "integer" else name for name in types)) + fractions


def _bounds(reader: Reader, number: int, schema: _Schema) -> Shapes:
    found: list[Shape] = []
    for keyword, value in schema.items():
        bound = typed.number_bound(reader, number, keyword, value)
        if bound is None:
            continue
        if bound.multiples:
            found.append(Number(not_multiples=bound.multiples))
        elif bound.low is not None:
            found.append(Number(high=bound.low, high_open=not bound.low_open))
        else:
            found.append(Number(low=bound.high, low_open=not bound.high_open))
    return tuple(found)


def _pattern(reader: Reader, number: int, schema: _Schema) -> Shapes:
    patterns.check_pattern(schema["pattern"], reader.document.places[number].pointer, "pattern")
    return (String(not_patterns=(schema["pattern"],)),)


def _at_least(make: Callable[[int], Shape]) -> Callable[[Any], Shapes]:
    """The opposite of `min…`: fewer, which nothing is where the bound is 0."""
    return lambda bound: (make(int(bound) - 1),) if bound >= 1 else ()


_SIZES: dict[str, Callable[[Any], Shapes]] = {
    "minLength": _at_least(lambda high: String(max_length=high)),
    "minItems": _at_least(lambda high: Array(max_items=high)),
    "minProperties": _at_least(lambda high: Object(max_properties=high)),
    "maxLength": lambda bound: (String(min_length=int(bound) + 1),),
    "maxItems": lambda bound: (Array(min_items=int(bound) + 1),),
    "maxProperties": lambda bound: (Object(min_properties=int(bound) + 1),),
}


def _size(keyword: str) -> applicators.Applicator:
    return lambda reader, number, schema: _SIZES[keyword](schema[keyword])


def _not(reader: Reader, number: int, *path: str | int) -> Terms:
    return frozenset({(reader.document.below(number, *path), True)})


def _prefix(reader: Reader, number: int, schema: _Schema) -> Shapes:
    keyword = "items" if isinstance(schema.get("items"), list) else "prefixItems"
    return tuple(
        Array(min_items=index + 1, prefix=(*[ANYTHING] * index, _not(reader, number, keyword, index)))
        for index in range(len(schema[keyword]))
    )


def _items(reader: Reader, number: int, schema: _Schema) -> Shapes:
    """The first item after the prefix is wrong: others may be, but one is enough."""
    if isinstance(schema.get("items"), list) and "additionalItems" not in schema:
        return _prefix(reader, number, schema)
    keyword = "additionalItems" if isinstance(schema.get("items"), list) else "items"
    skipped = len(schema["items"]) if keyword == "additionalItems" else len(schema.get("prefixItems", ()))
    wrong = Array(min_items=skipped + 1, prefix=(*[ANYTHING] * skipped, _not(reader, number, keyword)))
    return (wrong, *(_prefix(reader, number, schema) if keyword == "additionalItems" else ()))


def _contains(reader: Reader, number: int, schema: _Schema) -> Shapes:
    (clause,) = typed.contains(reader, number, schema)
    found: list[Shape] = []
    if clause.low == 1:
        found.append(Array(items=clause.opposite))
    elif clause.low > 1:
        fewer = Contains(terms=clause.terms, opposite=clause.opposite, low=0, high=clause.low - 1)
        found.append(Array(contains=(fewer,)))
    if clause.high is not None:
        more = Contains(terms=clause.terms, opposite=clause.opposite, low=clause.high + 1)
        found.append(Array(contains=(more,)))
    return tuple(found)


def _required(reader: Reader, number: int, schema: _Schema) -> Shapes:
    return tuple(Object(properties=((name, NOTHING),)) for name in schema["required"])


def _properties(reader: Reader, number: int, schema: _Schema) -> Shapes:
    return tuple(
        Object(properties=((name, _not(reader, number, "properties", name)),), required=frozenset({name}))
        for name in schema["properties"]
    )


def _additional(reader: Reader, number: int, schema: _Schema) -> Shapes:
    """One more property, of a name made up here, is wrong."""
    known = schema.get("properties", {})
    by_pattern = schema.get("patternProperties", {})
    for name in ("other", "x", "X1", "_", "0", "zz", "-"):
        if name not in known and not any(reader.matches(pattern, name) for pattern in by_pattern):
            wrong = _not(reader, number, "additionalProperties")
            return (Object(properties=((name, wrong),), required=frozenset({name})),)
    return _refused("additionalProperties")(reader, number, schema)


def _dependents(keyword: str) -> applicators.Applicator:
    def of(reader: Reader, number: int, schema: _Schema) -> Shapes:
        found: list[Shape] = []
        for name, wanted in schema[keyword].items():
            present = Object(required=frozenset({name}))
            if isinstance(wanted, list):
                absent = (Object(properties=((other, NOTHING),)) for other in wanted)
                found += reader.meet((present,), tuple(absent))
            else:
                found += reader.meet((present,), reader.judged((reader.document.below(number, keyword, name), True)))
        return tuple(found)

    return of


def _one_of(reader: Reader, number: int, schema: _Schema) -> Shapes:
    """None of the choices, or two at once."""
    choices = [reader.document.below(number, "oneOf", index) for index in range(len(schema["oneOf"]))]
    none = applicators.every("oneOf", negated=True)(reader, number, schema)
    both = [
        shape
        for index, a in enumerate(choices)
        for b in choices[:index]
        for shape in reader.meet(reader.judged((a, False)), reader.judged((b, False)))
    ]
    return (*none, *both)


def _if(reader: Reader, number: int, schema: _Schema) -> Shapes:
    condition = reader.document.below(number, "if")
    found: Shapes = ()
    for keyword, negated in (("then", False), ("else", True)):
        if keyword in schema:
            wrong = reader.judged((reader.document.below(number, keyword), True))
            found += reader.meet(reader.judged((condition, negated)), wrong)
    return found


def _refused(keyword: str) -> applicators.Applicator:
    def of(reader: Reader, number: int, schema: _Schema) -> Shapes:
        where = "below `not`, `else` or a choice of `oneOf` that must not hold; say what is allowed instead"
        raise not_enforced(keyword, reader.document.places[number].pointer, where)

    return of


def _unique(reader: Reader, number: int, schema: _Schema) -> Shapes:
    return _refused("uniqueItems")(reader, number, schema) if schema["uniqueItems"] else ()


_OPPOSITES: dict[str, applicators.Applicator] = {
    "type": _types,
    "enum": lambda reader, number, schema: other_than(reader, schema["enum"], number),
    "const": lambda reader, number, schema: other_than(reader, [schema["const"]], number),
    "minimum": _bounds,
    "exclusiveMinimum": _bounds,
    "maximum": _bounds,
    "exclusiveMaximum": _bounds,
    "multipleOf": _bounds,
    "pattern": _pattern,
    **{keyword: _size(keyword) for keyword in _SIZES},
    "prefixItems": _prefix,
    "items": _items,
    "contains": _contains,
    "uniqueItems": _unique,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "patternProperties": _refused("patternProperties"),
    "propertyNames": _refused("propertyNames"),
    "dependentRequired": _dependents("dependentRequired"),
    "dependentSchemas": _dependents("dependentSchemas"),
    "dependencies": _dependents("dependencies"),
    "unevaluatedItems": _refused("unevaluatedItems"),
    "unevaluatedProperties": _refused("unevaluatedProperties"),
    "allOf": applicators.some("allOf", negated=True),
    "anyOf": applicators.every("anyOf", negated=True),
    "oneOf": _one_of,
    "not": applicators.judged("not", negated=False),
    "if": _if,
    "$ref": applicators.target("$ref", negated=True),
    "$dynamicRef": applicators.target("$dynamicRef", negated=True),
    "$recursiveRef": applicators.target("$recursiveRef", negated=True),
}
