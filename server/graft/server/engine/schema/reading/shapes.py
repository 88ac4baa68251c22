"""What a schema allows, by type: a union of shapes. A child is a set of terms that must all hold; none is anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

Term = tuple[int, bool]  # a place in the document, and whether it is negated
Terms = frozenset[Term]

ANYTHING: Terms = frozenset()
NOTHING: Terms = frozenset({(0, False)})  # place 0 is the schema `false`


@dataclass(frozen=True, kw_only=True)
class Literal:
    """One value: null, a boolean, or a member of `enum`. `text` is its compact JSON."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Number:
    """A range; `whole` is True for integers only, False for numbers that are none, None for both."""

    low: Fraction | None = None
    low_open: bool = False
    high: Fraction | None = None
    high_open: bool = False
    whole: bool | None = None
    multiples: tuple[Fraction, ...] = ()
    not_multiples: tuple[Fraction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class String:
    """Lengths in characters; `patterns` are searched for, as JSON Schema does."""

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    not_patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Contains:
    """Between `low` and `high` items fit `terms`; `opposite` is its negation."""

    terms: Terms
    opposite: Terms
    low: int = 1
    high: int | None = None


@dataclass(frozen=True, kw_only=True)
class Array:
    """`evaluated` is how many leading items some applicator has judged, None for all (see `unevaluatedItems`)."""

    prefix: tuple[Terms, ...] = ()
    items: Terms = ANYTHING
    min_items: int = 0
    max_items: int | None = None
    unique: str | None = None  # the pointer of the schema that says so
    contains: tuple[Contains, ...] = ()
    evaluated: int | None = 0

    def at(self, index: int) -> Terms:
        return self.prefix[index] if index < len(self.prefix) else self.items


@dataclass(frozen=True, kw_only=True)
class Rest:
    """What holds for names that are not `known`: every pattern that matches, or `additional` where none does."""

    known: frozenset[str] = frozenset()
    patterns: tuple[tuple[str, Terms], ...] = ()
    additional: Terms = ANYTHING


@dataclass(frozen=True, kw_only=True)
class Object:
    """`properties` hold all that is said of these names; `rests` what is said of others.

    `evaluated` are the rules by which a name counts as judged (see `unevaluatedProperties`), None for all names.
    """

    properties: tuple[tuple[str, Terms], ...] = ()
    required: frozenset[str] = frozenset()
    rests: tuple[Rest, ...] = ()
    names: Terms = ANYTHING
    min_properties: int = 0
    max_properties: int | None = None
    open: bool = False  # whether the schema speaks of names beyond `properties`
    pointer: str = ""
    evaluated: tuple[Rest, ...] | None = ()


Shape = Literal | Number | String | Array | Object
Shapes = tuple[Shape, ...]

NULL: Shapes = (Literal(text="null"),)
BOOLEAN: Shapes = (Literal(text="true"), Literal(text="false"))
NUMBER, STRING, ARRAY, OBJECT = Number(), String(), Array(), Object()
TYPES: dict[str, Shapes] = {
    "null": NULL,
    "boolean": BOOLEAN,
    "number": (NUMBER,),
    "string": (STRING,),
    "array": (ARRAY,),
    "object": (OBJECT,),
}
ANY: Shapes = tuple(shape for shapes in TYPES.values() for shape in shapes)


def but(*types: str) -> Shapes:
    """Everything that is of none of these types."""
    return tuple(shape for name, shapes in TYPES.items() if name not in types for shape in shapes)


def meet_numbers(a: Number, b: Number) -> Number | None:
    """Both ranges; None where they exclude each other."""
    if a.whole is not None and b.whole is not None and a.whole != b.whole:
        return None
    low, low_open = _tighter((a.low, a.low_open), (b.low, b.low_open), 1)
    high, high_open = _tighter((a.high, a.high_open), (b.high, b.high_open), -1)
    if low is not None and high is not None and (low > high or (low == high and (low_open or high_open))):
        return None
    return Number(
        low=low,
        low_open=low_open,
        high=high,
        high_open=high_open,
        whole=a.whole if a.whole is not None else b.whole,
        multiples=_joined(a.multiples, b.multiples),
        not_multiples=_joined(a.not_multiples, b.not_multiples),
    )


def _tighter(
    a: tuple[Fraction | None, bool], b: tuple[Fraction | None, bool], sign: int
) -> tuple[Fraction | None, bool]:
    if a[0] is None or b[0] is None:
        return b if a[0] is None else a
    return max(a, b, key=lambda bound: (sign * (bound[0] or 0), bound[1]))


def _joined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return a + tuple(one for one in b if one not in a)


def meet_strings(a: String, b: String) -> String | None:
    low, high = max(a.min_length, b.min_length), smaller(a.max_length, b.max_length)
    if high is not None and low > high:
        return None
    return String(
        min_length=low,
        max_length=high,
        patterns=_joined(a.patterns, b.patterns),
        not_patterns=_joined(a.not_patterns, b.not_patterns),
        formats=_joined(a.formats, b.formats),
        excluded=a.excluded | b.excluded,
    )


def meet_arrays(a: Array, b: Array) -> Array | None:
    low, high = max(a.min_items, b.min_items), smaller(a.max_items, b.max_items)
    if high is not None and low > high:
        return None
    length = max(len(a.prefix), len(b.prefix))
    return Array(
        prefix=tuple(a.at(index) | b.at(index) for index in range(length)),
        items=a.items | b.items,
        min_items=low,
        max_items=high,
        unique=a.unique if a.unique is not None else b.unique,
        contains=_joined(a.contains, b.contains),
        evaluated=None if a.evaluated is None or b.evaluated is None else max(a.evaluated, b.evaluated),
    )


def smaller(a: int | None, b: int | None) -> int | None:
    """The smaller bound, where None is no bound."""
    return b if a is None else a if b is None else min(a, b)


def unjudged(shape: Shape) -> Shape:
    """The shape as seen from outside its schema, where `unevaluated…` may not look."""
    if isinstance(shape, Array) and shape.evaluated != 0:
        return replace(shape, evaluated=0)
    if isinstance(shape, Object) and shape.evaluated != ():
        return replace(shape, evaluated=())
    return shape
