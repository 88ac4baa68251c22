"""From shapes to a grammar in llguidance's Lark: compact JSON that fits into the room that a reply has.

Where the schema leaves a length open it is bounded by the room (strings, items, names, levels), so that a reply ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graft.server.engine.schema.grammar import arrays, numbers, objects, strings
from graft.server.engine.schema.grammar.sizes import MAX_DEPTH, Sizes
from graft.server.engine.schema.reading.reading import Circular, Reader
from graft.server.engine.schema.reading.shapes import Array, Literal, Number, Shape, String, Terms
from graft.server.engine.schema.refusal import SchemaRefused

MAX_RULES = 6_000
_MAX_STRING = 100_000


class Grammar:
    """Rules of one grammar; each value with the same terms, room and depth shares one."""

    def __init__(self, reader: Reader, *, max_depth: int = MAX_DEPTH, prefix: str = "") -> None:
        self.reader = reader
        self.sizes = Sizes(reader)
        self._max_depth = max_depth
        self._prefix = prefix
        self._rules: list[str] = []
        self._names: dict[tuple[Terms, int, int], str | None] = {}
        self._terminals: dict[str, str] = {}

    def rules(self, room: int) -> list[str]:
        """The rules of the root's value in at most about `room` characters, `start` first. Raises `SchemaRefused`."""
        start = self.value(self.reader.root, room, self._max_depth)
        if start is None:
            raise SchemaRefused("no value fits: what the schema asks for excludes itself", pointer=self._impossible())
        return [f"{self._prefix}start: {start}", *self._rules, *self._terminals.values()]

    def _impossible(self) -> str:
        """The pointer of the innermost schema, of those that were looked at, that nothing fits."""
        places = enumerate(self.reader.document.places[1:], start=1)
        found = [place.pointer for number, place in places if self._is_impossible(number)]
        return max(found, key=lambda pointer: pointer.count("/"), default="")

    def _is_impossible(self, number: int) -> bool:
        try:
            return math.isinf(self.sizes.least(frozenset({(number, False)}), self._max_depth))
        except (SchemaRefused, Circular):
            return False

    def value(self, terms: Terms, room: int, depth: int) -> str | None:
        """The rule for a value; None where none fits."""
        key = (terms, room, depth)
        if key not in self._names:
            self._names[key] = None
            try:
                self._names[key] = self._value(terms, room, depth)
            except SchemaRefused as error:
                if error.pointer is not None or isinstance(error, TooManyRules):
                    raise
                number = max((number for number, _ in terms), default=self.reader.document.root)
                raise SchemaRefused(str(error), pointer=self.reader.document.places[number].pointer) from error
        return self._names[key]

    def rule(self, alternatives: Sequence[str]) -> str:
        """A new rule; returns its name."""
        name = f"{self._prefix}r{len(self._rules)}"
        self.define(name, alternatives)
        return name

    def define(self, head: str, alternatives: Sequence[str]) -> None:
        """Add a rule of this name, which may have a parameter."""
        if len(self._rules) >= MAX_RULES:
            raise TooManyRules("the schema is too large; make it smaller")
        self._rules.append(f"{head}: {' | '.join(alternatives)}")

    def terminal(self, body: str) -> str:
        """The terminal with this body; equal bodies share one."""
        if body not in self._terminals:
            self._terminals[body] = f"{self._prefix.upper()}T{len(self._terminals)}: {body}"
        return self._terminals[body].partition(":")[0]

    def _value(self, terms: Terms, room: int, depth: int) -> str | None:
        sized = [(self.sizes.least_of(shape, depth), shape) for shape in self.reader.shapes(terms)]
        least = min((size for size, _ in sized), default=math.inf)
        if math.isinf(least):
            return None
        room = max(room, int(least))
        alternatives: list[str] = []
        for size, shape in sorted(sized, key=lambda pair: pair[0] > room):
            if size > room and alternatives:
                break  # only where nothing shorter can be written
            if not math.isinf(size):
                alternatives += self._shape(shape, max(room, int(size)), depth)
        return self.rule(list(dict.fromkeys(alternatives))) if alternatives else None

    def _shape(self, shape: Shape, room: int, depth: int) -> list[str]:
        if isinstance(shape, Literal):
            return [strings.literal(shape.text)]
        if isinstance(shape, Number):
            return self._number(shape)
        if isinstance(shape, String):
            return [found] if (found := self.string(shape, room - 2)) else []
        if isinstance(shape, Array):
            return arrays.alternatives(self, shape, room, depth)
        return objects.alternatives(self, shape, room, depth)

    def _number(self, number: Number) -> list[str]:
        if not number.multiples and not number.not_multiples:
            found = numbers.regex(number)
            return [self.terminal(f"/{found}/")] if found else []
        step, (low, high) = numbers.whole_step(number), numbers.whole_bounds(number)
        alternatives: list[str] = []
        if step is not None and step <= 10_000 and max(-low, high) < 10**15:
            first, last = -(-low // step) * step, high // step * step
            if first <= last:
                schema = f'{{"type":"integer","multipleOf":{step},"minimum":{first},"maximum":{last}}}'
                alternatives.append(f"%json {schema}")
        fractions = any(multiple.denominator != 1 for multiple in number.multiples)
        if (fractions or not alternatives) and (texts := numbers.listed(number)):
            alternatives.append(self.terminal("/" + "|".join(text.replace(".", "\\.") for text in texts) + "/"))
        return alternatives

    def string(self, string: String, room: int) -> str | None:
        """A string with its quotes, of at most `room` characters where the schema sets no bound."""
        high = min(room, _MAX_STRING)
        if (string.patterns or string.formats) and not string.not_patterns and not string.excluded:
            return strings.nested(string, high)
        body = strings.terminal(string, high)
        return self.terminal(body) if body else None


class TooManyRules(SchemaRefused):
    """The grammar grew too large; fewer levels may do."""
