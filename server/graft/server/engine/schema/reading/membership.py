"""Whether a value is one of those that a schema allows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graft.server.engine.schema.patterns import patterns
from graft.server.engine.schema.reading.shapes import Array, Contains, Literal, Number, Object, Shape, String, Terms
from graft.server.engine.schema.reading.values import exact, key_of, same, type_of

if TYPE_CHECKING:
    from graft.server.engine.schema.reading.reading import Reader


def fits(reader: Reader, terms: Terms, value: Any) -> bool:
    """Whether a value is allowed."""
    shapes = reader.shapes(terms)
    reader.spend(len(shapes))
    return any(fits_shape(reader, shape, value) for shape in shapes)


def fits_shape(reader: Reader, shape: Shape, value: Any) -> bool:
    """The same of one shape; the caller counts it."""
    kind = type_of(value)
    if isinstance(shape, Literal):
        return same(json.loads(shape.text), value)
    if isinstance(shape, Number):
        return kind == "number" and _number_fits(shape, value)
    if isinstance(shape, String):
        return kind == "string" and _string_fits(reader, shape, value)
    if isinstance(shape, Array):
        return kind == "array" and _array_fits(reader, shape, value)
    return kind == "object" and _object_fits(reader, shape, value)


def _array_fits(reader: Reader, shape: Array, value: list[Any]) -> bool:
    if len(value) < shape.min_items or (shape.max_items is not None and len(value) > shape.max_items):
        return False
    reader.spend(len(value))
    if shape.unique is not None and len({key_of(item) for item in value}) < len(value):
        return False
    if not all(fits(reader, shape.at(index), item) for index, item in enumerate(value)):
        return False
    return all(_contains(reader, clause, value) for clause in shape.contains)


def _contains(reader: Reader, clause: Contains, value: list[Any]) -> bool:
    count = sum(fits(reader, clause.terms, item) for item in value)
    return clause.low <= count and (clause.high is None or count <= clause.high)


def _object_fits(reader: Reader, shape: Object, value: Mapping[str, Any]) -> bool:
    if len(value) < shape.min_properties or not shape.required <= value.keys():
        return False
    if shape.max_properties is not None and len(value) > shape.max_properties:
        return False
    if not all(fits(reader, shape.names, name) for name in value):
        return False
    return all(fits(reader, reader.property(shape, name), each) for name, each in value.items())


def _number_fits(shape: Number, value: float) -> bool:
    number = exact(value)
    if shape.low is not None and (number < shape.low or (shape.low_open and number == shape.low)):
        return False
    if shape.high is not None and (number > shape.high or (shape.high_open and number == shape.high)):
        return False
    if shape.whole is not None and (number.denominator == 1) != shape.whole:
        return False
    if any((number / multiple).denominator != 1 for multiple in shape.multiples):
        return False
    return all((number / multiple).denominator != 1 for multiple in shape.not_multiples)


def _string_fits(reader: Reader, shape: String, value: str) -> bool:
    if len(value) < shape.min_length or (shape.max_length is not None and len(value) > shape.max_length):
        return False
    if value in shape.excluded or not all(reader.matches(pattern, value) for pattern in shape.patterns):
        return False
    if not all(patterns.is_of_format(name, value) for name in shape.formats):
        return False
    return not any(reader.matches(pattern, value) for pattern in shape.not_patterns)
