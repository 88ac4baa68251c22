"""A JSON Schema that replies are held to: read once, refused where it cannot be kept, written for a reply's room."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from graft.server.engine.schema.grammar.grammar import Grammar, TooManyRules
from graft.server.engine.schema.grammar.sizes import MAX_DEPTH, rounded
from graft.server.engine.schema.patterns.patterns import fault
from graft.server.engine.schema.reading.document import Document
from graft.server.engine.schema.reading.reading import Circular, Reader
from graft.server.engine.schema.refusal import SchemaRefused

_DEPTHS = (MAX_DEPTH, 8, 4)
_MAX_KEPT = 16


class JsonSchema:
    """What a reply must be: every value that the grammar writes is valid (not every valid one is written).

    May be used from several threads.
    """

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        """Raises `SchemaRefused` where the schema is broken."""
        self._reader = Reader(Document(schema))
        self._lock = threading.Lock()
        self._written: dict[int, str] = {}

    def grammar(self, room: int) -> str:
        """The grammar in llguidance's Lark, for a reply of at most about `room` characters.

        Raises `SchemaRefused` with the keyword and its place where something is not enforced.
        """
        room = rounded(room)
        with self._lock:
            if room not in self._written:
                text = "\n".join(["%llguidance {}", *self.rules(room)])
                if problem := fault(text):
                    raise SchemaRefused(f"the schema is too complex: {problem.splitlines()[0][:120]}", pointer="")
                if len(self._written) >= _MAX_KEPT:
                    self._written.clear()
                self._written[room] = text
            return self._written[room]

    def rules(self, room: int, prefix: str = "") -> list[str]:
        """The grammar's rules, beginning with `start`, each name after the prefix. Raises `SchemaRefused`."""
        self._reader.begin()
        try:
            return self._rules(room, prefix)
        except Circular as error:
            pointer = self._reader.document.places[error.term[0]].pointer
            problem = "refers to itself without any value in between; describe a value"
            raise SchemaRefused(problem, pointer=pointer) from error

    def _rules(self, room: int, prefix: str) -> list[str]:
        """With fewer levels of recursion where more make too many rules."""
        refused = TooManyRules("")
        for depth in _DEPTHS:
            try:
                return Grammar(self._reader, max_depth=depth, prefix=prefix).rules(room)
            except TooManyRules as error:
                refused = error
        raise refused
