"""Which demonstrations a program shows for an input, in which order, and which of them it can best do without."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.errors import BadInput, Violation
from graft.server.prompting.choosing import methods
from graft.server.prompting.choosing.likeness import Texts
from graft.server.prompting.program.checks import OF_THE_INPUT
from graft.server.prompting.program.program import Demonstration, PromptProgram
from graft.server.runtime.bounded import Bounded

DEFAULT_COUNT = 4
_MAX_PROGRAMS, _MAX_SETS = 64, 4096


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Indices into the program's demonstrations: in the prompt's order, and the same by likeness, farthest first."""

    indices: tuple[int, ...]
    farthest_first: tuple[int, ...]

    @property
    def nearest_first(self) -> tuple[int, ...]:
        return self.farthest_first[::-1]


def check_choosing(program: PromptProgram, *, embeds: bool = False) -> None:
    """Raises `BadInput` where a program asks for what this server cannot do. `embeds`: an embedding engine runs."""
    if program.choosing.method == "embedding" and not embeds:
        problem = "embedding needs an embedding engine, and none runs on this server: choose by bm25 or mmr"
        raise BadInput(Violation(field="choosing.method", problem=problem))


def num_wanted(program: PromptProgram) -> int:
    """How many demonstrations the program shows where they fit."""
    have, choosing = len(program.demonstrations), program.choosing
    if program.mode == "zero_shot":
        return 0
    if program.mode == "one_shot":
        return min(1, have)
    default = have if choosing.method == "fixed" else DEFAULT_COUNT
    return min(default if choosing.count is None else choosing.count, have)


class Chooser:
    """Keeps, by the program's digest, what later inputs use again. May be called from several threads."""

    def __init__(self) -> None:
        self._texts: Bounded[Texts] = Bounded(_MAX_PROGRAMS)
        self._sets: Bounded[Chosen] = Bounded(_MAX_SETS)

    def choose(self, program: PromptProgram, digest: str, variables: Mapping[str, Any]) -> Chosen:
        """The demonstrations for an input. With thousands of them it takes part of a second: call it in a thread.

        An order by entropy asks a model and comes later (see `order`): until then they stand as given. Raises
        `BadInput` as `check_choosing` does.
        """
        check_choosing(program)
        if not num_wanted(program):
            return Chosen(indices=(), farthest_first=())
        query = _text_of(variables, _names(program))
        key = digest, hashlib.sha256(query.encode(errors="replace")).hexdigest()
        return self._sets.get(key, lambda: self._choose(program, digest, query))

    def _choose(self, program: PromptProgram, digest: str, query: str) -> Chosen:
        taken, texts = self._taken(program, digest, query)
        found = texts.scores(query)
        places = range(len(found)) if program.choosing.method in OF_THE_INPUT else taken
        scores = dict(zip(places, found.tolist(), strict=True))
        # Of equals the later is the farther: what is dropped leaves a beginning that other inputs share.
        farthest_first = sorted(taken, key=lambda index: (scores[index], -index))
        in_order = farthest_first if program.choosing.order == "similar_last" else sorted(taken)
        return Chosen(indices=tuple(in_order), farthest_first=tuple(farthest_first))

    def _taken(self, program: PromptProgram, digest: str, query: str) -> tuple[list[int], Texts]:
        """With the texts that the query is compared with: all where it decides, else those that are taken."""
        choosing, count = program.choosing, num_wanted(program)
        if choosing.method in OF_THE_INPUT:
            texts = self._texts.get(digest, lambda: _texts(program, range(len(program.demonstrations))))
            if choosing.method == "bm25":
                return methods.nearest(texts, query, count), texts
            return methods.diverse(texts, query, count, choosing.diversity), texts
        taken = without_input(program)
        return taken, self._texts.get(digest, lambda: _texts(program, taken))


def without_input(program: PromptProgram) -> list[int]:
    """What a method takes that looks at no input."""
    choosing, count = program.choosing, num_wanted(program)
    if choosing.method == "random":
        return methods.at_random(len(program.demonstrations), count, choosing.seed)
    if choosing.method == "balanced":
        return methods.balanced([label_of(each) for each in program.demonstrations], count, choosing.seed)
    return list(range(count))


def label_of(demonstration: Demonstration) -> str:
    """Its class."""
    return demonstration.output if demonstration.label is None else demonstration.label


def _names(program: PromptProgram) -> list[str]:
    """Variables that demonstrations have, in the order in which they come up."""
    return list(dict.fromkeys(name for each in program.demonstrations for name in each.inputs))


def _texts(program: PromptProgram, indices: Iterable[int]) -> Texts:
    names = _names(program)
    return Texts([_text_of(program.demonstrations[index].inputs, names) for index in indices])


def _text_of(variables: Mapping[str, Any], names: list[str]) -> str:
    return "\n".join(str(variables[name]) for name in names if name in variables)
