"""From keywords to shapes: what a schema says, as a union over types with references followed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from graft.server.engine.schema import negation, patterns, typed
from graft.server.engine.schema.document import Document
from graft.server.engine.schema.patterns import matches
from graft.server.engine.schema.refusal import SchemaRefused, not_enforced
from graft.server.engine.schema.shapes import (
    ANY,
    ANYTHING,
    NOTHING,
    Array,
    Contains,
    Literal,
    Number,
    Object,
    Rest,
    Shape,
    Shapes,
    String,
    Term,
    Terms,
    meet_arrays,
    meet_numbers,
    meet_strings,
    smaller,
    unjudged,
)
from graft.server.engine.schema.values import exact, same, type_of

MAX_WORK = 100_000
MAX_ALTERNATIVES = 2_000


class TooManyAlternatives(Exception):
    """A union grew too large, or too much was put together."""


class Circular(Exception):
    """A schema that is, by references alone, part of itself."""

    def __init__(self, term: Term) -> None:
        self.term = term


class Reader:
    """Shapes of the places of one document; each is worked out once."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._known: dict[Terms, Shapes] = {}
        self._judged: dict[Term, Shapes] = {}
        self._open: set[Term] = set()
        self._looking: set[Terms] = set()
        self._work = 0

    @property
    def root(self) -> Terms:
        return frozenset({(self.document.root, False)})

    def shapes(self, terms: Terms) -> Shapes:
        """What all of the terms allow together. Raises `SchemaRefused`."""
        if terms not in self._known:
            found = ANY
            try:
                for term in sorted(terms):
                    found = self.meet(found, tuple(unjudged(shape) for shape in self.judged(term)))
            except TooManyAlternatives as error:
                pointer = self.document.places[max(terms)[0]].pointer
                raise SchemaRefused("has too many alternatives; make it smaller", pointer=pointer) from error
            self._known[terms] = found
        return self._known[terms]

    def judged(self, term: Term) -> Shapes:
        """A term's shapes with what they have evaluated; raises `Circular` where it is part of itself."""
        if term not in self._judged:
            if term in self._open:
                raise Circular(term)
            self._open.add(term)
            try:
                number, negated = term
                self._judged[term] = negation.opposite(self, number) if negated else self._positive(number)
            except TooManyAlternatives as error:
                problem = "has too many alternatives taken together; make it smaller"
                raise SchemaRefused(problem, pointer=self.document.places[term[0]].pointer) from error
            finally:
                self._open.discard(term)
        return self._judged[term]

    def _positive(self, number: int) -> Shapes:
        schema = self.document.places[number].schema
        if isinstance(schema, bool):
            return ANY if schema else ()
        found = typed.shapes(self, number, schema)
        for keyword, read in _IN_PLACE.items():
            if keyword in schema:
                found = self.meet(found, read(self, number, schema))
        for keyword, judge in _UNEVALUATED.items():
            if keyword in schema:
                found = self._judge(found, number, keyword, judge)
        return found

    def _judge(self, found: Shapes, number: int, keyword: str, judge: Callable[[Shape, Terms], Shape]) -> Shapes:
        if any(isinstance(shape, Literal) and shape.text[0] in "[{" for shape in found):
            pointer = self.document.places[number].pointer
            raise not_enforced(keyword, pointer, "beside `const` or `enum` with arrays or objects; leave it out")
        rest = frozenset({(self.document.below(number, keyword), False)})
        met = (self._meet(shape, judge(shape, rest)) for shape in found)
        return tuple(shape for shape in met if shape is not None)

    def meet(self, left: Shapes, right: Shapes) -> Shapes:
        """What both unions allow."""
        self._work += len(left) * len(right)
        if self._work > MAX_WORK:
            raise TooManyAlternatives
        met = (self._meet(a, b) for a in left for b in right)
        found = tuple(dict.fromkeys(shape for shape in met if shape is not None))
        if len(found) > MAX_ALTERNATIVES:
            raise TooManyAlternatives
        return found

    def _meet(self, a: Shape, b: Shape) -> Shape | None:
        if isinstance(a, Literal):
            return a if self.fits_shape(b, json.loads(a.text)) else None
        if isinstance(b, Literal):
            return self._meet(b, a)
        if isinstance(a, Number) and isinstance(b, Number):
            return meet_numbers(a, b)
        if isinstance(a, String) and isinstance(b, String):
            return meet_strings(a, b)
        if isinstance(a, Array) and isinstance(b, Array):
            return self.possible_array(meet_arrays(a, b))
        if isinstance(a, Object) and isinstance(b, Object):
            return self.meet_objects(a, b)
        return None

    def possible_array(self, array: Array | None) -> Array | None:
        if array is None:
            return None
        for index, terms in enumerate(array.prefix):
            if self.empty(terms):
                if index < array.min_items:
                    return None
                return replace(array, prefix=array.prefix[:index], items=NOTHING, max_items=index)
        return array

    def meet_objects(self, a: Object, b: Object) -> Object | None:
        names = dict.fromkeys([name for name, _ in a.properties] + [name for name, _ in b.properties])
        met = Object(
            properties=tuple((name, self.property(a, name) | self.property(b, name)) for name in names),
            required=a.required | b.required,
            rests=a.rests + tuple(rest for rest in b.rests if rest not in a.rests),
            names=a.names | b.names,
            min_properties=max(a.min_properties, b.min_properties),
            max_properties=smaller(a.max_properties, b.max_properties),
            open=a.open or b.open,
            pointer=a.pointer or b.pointer,
            evaluated=None if a.evaluated is None or b.evaluated is None else a.evaluated + b.evaluated,
        )
        low = max(met.min_properties, len(met.required))
        if met.max_properties is not None and low > met.max_properties:
            return None
        return None if any(self.empty(self.property(met, name)) for name in met.required) else met

    def property(self, shape: Object, name: str) -> Terms:
        """What is said of a name's value."""
        for listed, terms in shape.properties:
            if listed == name:
                return terms
        return ANYTHING.union(*(rest_at(rest, name) for rest in shape.rests))

    def empty(self, terms: Terms) -> bool:
        """Whether nothing fits, as far as that is seen without looking into values that hold themselves."""
        if not terms or terms in self._looking:
            return False
        self._looking.add(terms)
        try:
            return not self.shapes(terms)
        except Circular:
            return False
        finally:
            self._looking.discard(terms)

    def fits(self, terms: Terms, value: Any) -> bool:
        """Whether a value is allowed."""
        return any(self.fits_shape(shape, value) for shape in self.shapes(terms))

    def fits_shape(self, shape: Shape, value: Any) -> bool:
        kind = type_of(value)
        if isinstance(shape, Literal):
            return same(json.loads(shape.text), value)
        if isinstance(shape, Number):
            return kind == "number" and number_fits(shape, value)
        if isinstance(shape, String):
            return kind == "string" and string_fits(shape, value)
        if isinstance(shape, Array):
            return kind == "array" and self._array_fits(shape, value)
        return kind == "object" and self._object_fits(shape, value)

    def _array_fits(self, shape: Array, value: list[Any]) -> bool:
        if len(value) < shape.min_items or (shape.max_items is not None and len(value) > shape.max_items):
            return False
        if shape.unique is not None and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
            return False
        if not all(self.fits(shape.at(index), item) for index, item in enumerate(value)):
            return False
        return all(self._contains(clause, value) for clause in shape.contains)

    def _contains(self, clause: Contains, value: list[Any]) -> bool:
        count = sum(self.fits(clause.terms, item) for item in value)
        return clause.low <= count and (clause.high is None or count <= clause.high)

    def _object_fits(self, shape: Object, value: Mapping[str, Any]) -> bool:
        if len(value) < shape.min_properties or not shape.required <= value.keys():
            return False
        if shape.max_properties is not None and len(value) > shape.max_properties:
            return False
        if not all(self.fits(shape.names, name) for name in value):
            return False
        return all(self.fits(self.property(shape, name), each) for name, each in value.items())

    # Applicators in place.

    def all_of(self, number: int, schema: Mapping[str, Any]) -> Shapes:
        found = ANY
        for index in range(len(schema["allOf"])):
            found = self.meet(found, self.judged((self.document.below(number, "allOf", index), False)))
        return found

    def any_of(self, number: int, schema: Mapping[str, Any]) -> Shapes:
        parts = [self.judged((self.document.below(number, "anyOf", i), False)) for i in range(len(schema["anyOf"]))]
        return tuple(dict.fromkeys(shape for part in parts for shape in part))

    def one_of(self, number: int, schema: Mapping[str, Any]) -> Shapes:
        """Each choice without what another allows too: most exclude each other as they are."""
        choices = [self.document.below(number, "oneOf", index) for index in range(len(schema["oneOf"]))]
        found: list[Shape] = []
        for choice in choices:
            part = self.judged((choice, False))
            for other in choices:
                if other != choice and self.meet(part, self.judged((other, False))):
                    part = self.meet(part, self.judged((other, True)))
            found += part
        return tuple(dict.fromkeys(found))

    def if_then_else(self, number: int, schema: Mapping[str, Any]) -> Shapes:
        condition = self.document.below(number, "if")
        fits: Shapes = self.judged((condition, False))
        if "then" in schema:
            fits = self.meet(fits, self.judged((self.document.below(number, "then"), False)))
        if "then" not in schema and "else" not in schema:
            return ANY
        other: Shapes = self.judged((condition, True))
        if "else" in schema:
            other = self.meet(other, self.judged((self.document.below(number, "else"), False)))
        return tuple(dict.fromkeys(fits + other))

    def negated(self, number: int, schema: Mapping[str, Any]) -> Shapes:
        return self.judged((self.document.below(number, "not"), True))

    def reference(self, number: int, keyword: str) -> Shapes:
        return self.judged((self.document.target(number, keyword), False))

    def dependents(self, number: int, schema: Mapping[str, Any], keyword: str) -> Shapes:
        """`dependentRequired`, `dependentSchemas` and the older `dependencies`: a name is absent, or more holds."""
        found = ANY
        for name, wanted in schema[keyword].items():
            others = typed.others_and(Object(properties=((name, NOTHING),)))
            if isinstance(wanted, list):
                present: Shapes = typed.others_and(Object(required=frozenset({name, *wanted})), only=True)
            else:
                present = self.meet(
                    (Object(required=frozenset({name})),),
                    self.judged((self.document.below(number, keyword, name), False)),
                )
            found = self.meet(found, others + present)
        return found


_IN_PLACE: dict[str, Any] = {
    "$ref": lambda reader, number, _: reader.reference(number, "$ref"),
    "$dynamicRef": lambda reader, number, _: reader.reference(number, "$dynamicRef"),
    "$recursiveRef": lambda reader, number, _: reader.reference(number, "$recursiveRef"),
    "allOf": Reader.all_of,
    "anyOf": Reader.any_of,
    "oneOf": Reader.one_of,
    "not": Reader.negated,
    "if": Reader.if_then_else,
    "dependentRequired": lambda reader, number, schema: reader.dependents(number, schema, "dependentRequired"),
    "dependentSchemas": lambda reader, number, schema: reader.dependents(number, schema, "dependentSchemas"),
    "dependencies": lambda reader, number, schema: reader.dependents(number, schema, "dependencies"),
}


def rest_at(rest: Rest, name: str) -> Terms:
    """What a rule for other names says of one."""
    if name in rest.known:
        return ANYTHING
    matched = [terms for pattern, terms in rest.patterns if matches(pattern, name)]
    return ANYTHING.union(*matched) if matched else rest.additional


def number_fits(shape: Number, value: float) -> bool:
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


def string_fits(shape: String, value: str) -> bool:
    if len(value) < shape.min_length or (shape.max_length is not None and len(value) > shape.max_length):
        return False
    if value in shape.excluded or not all(matches(pattern, value) for pattern in shape.patterns):
        return False
    if not all(patterns.is_of_format(name, value) for name in shape.formats):
        return False
    return not any(matches(pattern, value) for pattern in shape.not_patterns)


def _others_are(shape: Shape, rest: Terms) -> Shape:
    if not isinstance(shape, Object) or shape.evaluated is None:
        return shape
    known = frozenset[str]().union(*(rule.known for rule in shape.evaluated))
    patterns = tuple((pattern, ANYTHING) for rule in shape.evaluated for pattern, _ in rule.patterns)
    listed = tuple((name, ANYTHING) for name in known)
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


_UNEVALUATED: dict[str, Callable[[Shape, Terms], Shape]] = {
    "unevaluatedProperties": _others_are,
    "unevaluatedItems": _later_are,
}
