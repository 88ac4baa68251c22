"""From keywords to shapes: what a schema says, as a union over types with references followed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from graft.server.engine.schema.patterns.patterns import matches
from graft.server.engine.schema.reading import applicators, negation, typed
from graft.server.engine.schema.reading.document import Document
from graft.server.engine.schema.reading.membership import fits_shape
from graft.server.engine.schema.reading.shapes import (
    ANY,
    ANYTHING,
    NOTHING,
    Array,
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
from graft.server.engine.schema.refusal import SchemaRefused, not_enforced

MAX_WORK = 100_000
MAX_ALTERNATIVES = 2_000
MAX_NESTED = 64
_PATTERN_WORK = 10  # a search is so much more than a comparison


class TooManyAlternatives(SchemaRefused):
    """A union grew too large, or too much was put together."""

    def __init__(self) -> None:
        super().__init__("has too many alternatives taken together; make it smaller")


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
        self._matches: dict[tuple[str, str], bool] = {}
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
                raise SchemaRefused(str(error), pointer=pointer) from error
            self._known[terms] = found
        return self._known[terms]

    def judged(self, term: Term) -> Shapes:
        """A term's shapes with what they have evaluated; raises `Circular` where it is part of itself."""
        if term not in self._judged:
            if term in self._open:
                raise Circular(term)
            if len(self._open) >= MAX_NESTED:
                problem = f"more than {MAX_NESTED} schemas lie inside each other here, or refer to each other"
                raise SchemaRefused(
                    f"{problem}; put some of them together", pointer=self.document.places[term[0]].pointer
                )
            self._open.add(term)
            try:
                number, negated = term
                self._judged[term] = negation.opposite(self, number) if negated else self._positive(number)
            except TooManyAlternatives as error:
                raise SchemaRefused(str(error), pointer=self.document.places[term[0]].pointer) from error
            finally:
                self._open.discard(term)
        return self._judged[term]

    def begin(self) -> None:
        """What is worked out from here on may take all the work that one schema may; what is known stays so."""
        self._work = 0

    def spend(self, work: int) -> None:
        """Count so many comparisons. Raises `TooManyAlternatives`."""
        self._work += work
        if self._work > MAX_WORK:
            raise TooManyAlternatives

    def matches(self, pattern: str, text: str) -> bool:
        """Whether the pattern is found in the text; counted once."""
        if (pattern, text) not in self._matches:
            self.spend(_PATTERN_WORK)
            self._matches[pattern, text] = matches(pattern, text)
        return self._matches[pattern, text]

    def _positive(self, number: int) -> Shapes:
        schema = self.document.places[number].schema
        if isinstance(schema, bool):
            return ANY if schema else ()
        found = typed.shapes(self, number, schema)
        for keyword, read in applicators.IN_PLACE.items():
            if keyword in schema:
                found = self.meet(found, read(self, number, schema))
        for keyword, judge in applicators.UNEVALUATED.items():
            if keyword in schema:
                found = self._judge(found, number, keyword, judge)
        return found

    def _judge(self, found: Shapes, number: int, keyword: str, judge: Callable[[Shape, Terms], Shape]) -> Shapes:
        if any(isinstance(shape, Literal) and shape.text[0] in "[{" for shape in found):
            pointer = self.document.places[number].pointer
            raise not_enforced(keyword, pointer, "beside `const` or `enum` with arrays or objects; leave it out")
        rest = frozenset({(self._unevaluated(number, keyword), False)})
        met = (self._meet(shape, judge(shape, rest)) for shape in found)
        return tuple(shape for shape in met if shape is not None)

    def _unevaluated(self, number: int, keyword: str) -> int:
        """What unjudged values must be: as from 2020-12 `contains` beside it judges the items that match it."""
        schema = self.document.places[number].schema
        assert isinstance(schema, Mapping)
        if keyword == "unevaluatedItems" and "contains" in schema and self.document.contains_evaluates:
            return self.document.made({"anyOf": [schema["contains"], schema[keyword]]}, number)
        return self.document.below(number, keyword)

    def meet(self, left: Shapes, right: Shapes) -> Shapes:
        """What both unions allow."""
        if left == ANY and all(isinstance(shape, Literal) for shape in right):
            return right
        self.spend(len(left) * len(right))
        met = (self._meet(a, b) for a in left for b in right)
        found = tuple(dict.fromkeys(shape for shape in met if shape is not None))
        if len(found) > MAX_ALTERNATIVES:
            raise TooManyAlternatives
        return found

    def _meet(self, a: Shape, b: Shape) -> Shape | None:
        if isinstance(a, Literal):
            return a if fits_shape(self, b, json.loads(a.text)) else None
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
        self.spend((len(a.properties) + len(b.properties)) // 50)
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
        return None if any(self.empty(self.property(met, name)) for name in sorted(met.required)) else met

    def property(self, shape: Object, name: str) -> Terms:
        """What is said of a name's value."""
        for listed, terms in shape.properties:
            if listed == name:
                return terms
        return ANYTHING.union(*(self._rest_at(rest, name) for rest in shape.rests))

    def _rest_at(self, rest: Rest, name: str) -> Terms:
        """What a rule for other names says of one."""
        if name in rest.known:
            return ANYTHING
        matched = [terms for pattern, terms in rest.patterns if self.matches(pattern, name)]
        return ANYTHING.union(*matched) if matched else rest.additional

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
