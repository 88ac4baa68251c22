"""The keywords that speak of one type each, gathered in one shape for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graft.server.engine.schema.patterns import patterns
from graft.server.engine.schema.reading.shapes import (
    ANYTHING,
    NOTHING,
    TYPES,
    Array,
    Contains,
    Literal,
    Number,
    Object,
    Rest,
    Shapes,
    String,
    Terms,
    meet_numbers,
)
from graft.server.engine.schema.reading.values import compact, exact
from graft.server.engine.schema.refusal import not_enforced

if TYPE_CHECKING:
    from graft.server.engine.schema.reading.reading import Reader

_Schema = Mapping[str, Any]
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
_FINEST, _COARSEST = 1e-9, 1e12  # of `multipleOf`


def shapes(reader: Reader, number: int, schema: _Schema) -> Shapes:
    """What `type` and the keywords of each type allow."""
    types = schema.get("type", list(TYPES))
    types = [types] if isinstance(types, str) else types
    found: Shapes = tuple(dict.fromkeys(shape for name in types for shape in _of_type(reader, number, schema, name)))
    if "enum" in schema:
        found = reader.meet(tuple(Literal(text=compact(value)) for value in schema["enum"]), found)
    if "const" in schema:
        found = reader.meet((Literal(text=compact(schema["const"])),), found)
    return found


def _of_type(reader: Reader, number: int, schema: _Schema, name: str) -> Shapes:
    if name in ("number", "integer"):
        step = schema.get("multipleOf", 1)
        if not _FINEST <= step <= _COARSEST:
            where = f"where it is {str(step)[:20]}; it may be from {_FINEST:g} to {_COARSEST:g}"
            raise not_enforced("multipleOf", reader.document.places[number].pointer, where)
        return _number(reader, number, schema, whole=True if name == "integer" else None)
    if name == "string":
        return (_string(reader, number, schema),)
    if name == "array":
        return _array(reader, number, schema)
    if name == "object":
        return _object(reader, number, schema)
    return TYPES[name]


def _number(reader: Reader, number: int, schema: _Schema, whole: bool | None) -> Shapes:
    found: Number | None = Number(whole=whole)
    for keyword, value in schema.items():
        if found is not None and (bound := number_bound(reader, number, keyword, value)) is not None:
            found = meet_numbers(found, bound)
    return () if found is None else (found,)


def number_bound(reader: Reader, number: int, keyword: str, value: Any) -> Number | None:
    """What one keyword says of numbers. Raises `SchemaRefused`."""
    if keyword in _BOUNDS and abs(value) > sys.float_info.max:
        where = f"where it is {str(value)[:20]}…; it may be from -1.8e308 to 1.8e308"
        raise not_enforced(keyword, reader.document.places[number].pointer, where)
    if keyword in ("minimum", "exclusiveMinimum"):
        return Number(low=exact(value), low_open=keyword != "minimum")
    if keyword in ("maximum", "exclusiveMaximum"):
        return Number(high=exact(value), high_open=keyword != "maximum")
    return Number(multiples=(exact(value),)) if keyword == "multipleOf" else None


def _string(reader: Reader, number: int, schema: _Schema) -> String:
    pointer = reader.document.places[number].pointer
    pattern, name = schema.get("pattern"), schema.get("format")
    if pattern is not None:
        patterns.check_pattern(pattern, pointer, "pattern")
    if name == "regex":
        raise not_enforced("format", pointer, "as `regex`; say it as `pattern`, or leave it out")
    name = patterns.WIDER_FORMATS.get(str(name), name)
    searched = [one for one in (pattern, patterns.FORMAT_PATTERNS.get(str(name))) if one is not None]
    high = schema.get("maxLength")
    return String(
        min_length=int(schema.get("minLength", 0)),
        max_length=None if high is None else int(high),
        patterns=tuple(searched),
        formats=(name,) if name in patterns.FORMATS else (),
    )


def _child(reader: Reader, number: int, *path: str | int) -> Terms:
    place = reader.document.below(number, *path)
    return ANYTHING if reader.document.places[place].schema is True else frozenset({(place, False)})


def _array(reader: Reader, number: int, schema: _Schema) -> Shapes:
    keyword = "items" if isinstance(schema.get("items"), list) else "prefixItems"
    prefix = tuple(_child(reader, number, keyword, index) for index in range(len(schema.get(keyword, ()))))
    rest = "additionalItems" if keyword == "items" else "items"
    high = schema.get("maxItems")
    if high is not None and high < schema.get("minItems", 0):
        return ()
    found = reader.possible_array(
        Array(
            prefix=prefix,
            items=_child(reader, number, rest) if rest in schema else ANYTHING,
            min_items=int(schema.get("minItems", 0)),
            max_items=None if high is None else int(high),
            unique=reader.document.places[number].pointer if schema.get("uniqueItems") else None,
            contains=contains(reader, number, schema),
            evaluated=None if rest in schema else len(prefix),
        )
    )
    return () if found is None else (found,)


def contains(reader: Reader, number: int, schema: _Schema) -> tuple[Contains, ...]:
    """The clause that `contains`, `minContains` and `maxContains` make, if any."""
    if "contains" not in schema:
        return ()
    place = reader.document.below(number, "contains")
    high = schema.get("maxContains")
    return (
        Contains(
            terms=frozenset({(place, False)}),
            opposite=frozenset({(place, True)}),
            low=int(schema.get("minContains", 1)),
            high=None if high is None else int(high),
        ),
    )


def _object(reader: Reader, number: int, schema: _Schema) -> Shapes:
    by_pattern = tuple(
        (pattern, _child(reader, number, "patternProperties", pattern))
        for pattern in schema.get("patternProperties", {})
    )
    pointer = reader.document.places[number].pointer
    for pattern, _ in by_pattern:
        patterns.check_pattern(pattern, pointer, "patternProperties")
    listed = [(name, _child(reader, number, "properties", name)) for name in schema.get("properties", {})]
    matched = [
        (name, terms.union(*(also for pattern, also in by_pattern if reader.matches(pattern, name))))
        for name, terms in listed
    ]
    additional = _child(reader, number, "additionalProperties") if "additionalProperties" in schema else ANYTHING
    rest = Rest(known=frozenset(name for name, _ in listed), patterns=by_pattern, additional=additional)
    low, high = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    shape = Object(
        properties=tuple(matched),
        required=frozenset(schema.get("required", ())),
        rests=(rest,) if by_pattern or additional else (),
        names=_child(reader, number, "propertyNames") if "propertyNames" in schema else ANYTHING,
        min_properties=low,
        max_properties=None if high is None else int(high),
        open=bool(by_pattern) or ("additionalProperties" in schema and additional != NOTHING),
        pointer=pointer,
        evaluated=None if "additionalProperties" in schema else (rest,),
    )
    found = reader.meet_objects(Object(), shape)
    return () if found is None else (found,)
