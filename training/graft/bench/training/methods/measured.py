"""The table of methods: each trained, made servable, served, and compared with what it is without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from graft.adapters.base.base import find_base
from graft.bench.training.methods import bases, task
from graft.bench.training.methods.forks import StageFailed, forked
from graft.bench.training.methods.ledger import Ledger
from graft.bench.training.methods.reference import InFourBits, Reference, base_says
from graft.bench.training.methods.route import Servable
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.serving import Serving
from graft.bench.training.methods.subject import Subject, key_of
from graft.bench.training.methods.trial import Trial, plain

NEAR_NATS = 0.3
"""A served token that stands no further below the reference's first choice is a matter of rounding: engine and peft
add bfloat16 numbers in other orders, and one request alone and several at once already part by 0.07 nats (LOG).
"""
LEAST_ACCURACY = 0.9
"""What each method is to reach."""
_AT_ONCE = 2
"""Of what is not timed."""
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table, as far as it came."""

    name: str
    trial: Trial | None = None
    servable: Servable | None = None
    served: Said | None = None
    reference: Reference | None = None
    failure: str | None = None
    """Why it came no further."""

    @property
    def accuracy(self) -> float | None:
        """By peft and transformers, of words that nothing asked about before."""
        return None if self.reference is None else _accuracy(self.reference.own)

    @property
    def served_accuracy(self) -> float | None:
        return None if self.served is None else _accuracy(self.served)

    @property
    def in_four_bits(self) -> InFourBits | None:
        """Of a new base."""
        return None if self.reference is None else self.reference.in_four_bits

    @property
    def accuracy_in_four_bits(self) -> float | None:
        return None if self.in_four_bits is None else _accuracy(self.in_four_bits.said)

    @property
    def num_equal(self) -> int | None:
        """Of the served answers, those that are the reference's, token by token: the trained adapter's under peft, or
        the new base's under transformers.
        """
        pairs = self._pairs()
        return None if pairs is None else sum(ids == other for ids, other, _ in pairs)

    @property
    def num_near(self) -> int | None:
        """And those that are no further from the reference than ``NEAR_NATS``."""
        pairs = self._pairs()
        return None if pairs is None else sum(ids == other or below <= NEAR_NATS for ids, other, below in pairs)

    @property
    def below_nats(self) -> float | None:
        """How far the worst served token stands below the reference's first choice."""
        return max(self.reference.below_nats) if self.reference and self.reference.below_nats else None

    @property
    def shortfall(self) -> str | None:
        """What of the table's promise it misses."""
        if self.failure is not None:
            return self.failure
        if self.accuracy is not None and self.accuracy < LEAST_ACCURACY:
            return f"accuracy {self.accuracy:.0%}, promised are {LEAST_ACCURACY:.0%}"
        if self.num_near is not None and self.num_near < task.NUM_QUESTIONS:
            return f"{task.NUM_QUESTIONS - self.num_near} served answers are not the reference's"
        return None

    def _pairs(self) -> list[tuple[list[int], list[int], float]] | None:
        if self.served is None or self.reference is None:
            return None
        there = self.reference
        return list(zip(self.served.ids, there.said.ids, there.below_nats, strict=True))


def _accuracy(said: Said) -> float:
    return task.accuracy(task.asked(), said.texts)


def measure(names: Sequence[str], work: Path) -> dict[str, Measured]:
    """Each method of ``names``; what is known in ``work`` already is not done again."""
    data, prompts = work / "rows.jsonl", [row.prompt for row in task.asked()]
    task.write_rows(data, task.learned())
    subjects = [Subject.of(name, work) for name in names]
    trials = {one.name: one.train(data) for one in tqdm(subjects, unit="method", desc="training")}
    ways = dict(zip(names, _at_once("compiling", Subject.compile, subjects), strict=True))
    served = _served(subjects, ways, prompts)

    def refer(one: Subject) -> Reference | None:
        way = ways[one.name]
        return None if way is None else one.refer(way, prompts, served.get(one.name))

    references = _at_once("asking peft", refer, subjects)
    return {
        one.name: Measured(
            name=one.name,
            trial=trials[one.name],
            servable=ways[one.name],
            served=served.get(one.name),
            reference=reference,
            failure=one.failure,
        )
        for one, reference in zip(subjects, references, strict=True)
    }


def before(work: Path) -> float:
    """The base's own accuracy. Raises ``StageFailed``."""
    prompts = [row.prompt for row in task.asked()]
    base, log = find_base(bases.SHIPPED), work / "base.log"
    ledger = Ledger(work / "base.json", key_of(prompts))
    return _accuracy(Said(**ledger.once("said", lambda: forked(base_says, base, prompts, log=log).value)))


def _served(
    subjects: Sequence[Subject], ways: Mapping[str, Servable | None], prompts: Sequence[str]
) -> dict[str, Said]:
    """By what can be served, and did not fail."""
    servings = list(_servings(subjects, ways))
    found: dict[str, Said] = {}

    def note(one: Subject, said: Said | StageFailed | None) -> None:
        def answers() -> Said:
            if isinstance(said, StageFailed):
                raise said
            assert said is not None
            return said

        if (known := one.serve(answers)) is not None:
            found[one.name] = known

    def serve(pair: tuple[Serving, Mapping[str, Subject]]) -> None:
        serving, asked = pair
        for name, said in serving.answers(prompts):
            note(asked[name], said)

    _at_once("serving", serve, servings)
    for one in subjects:
        if one.is_served:
            note(one, None)
    return found


def _servings(
    subjects: Sequence[Subject], ways: Mapping[str, Servable | None]
) -> Iterable[tuple[Serving, Mapping[str, Subject]]]:
    """One server for all adapters of a base, and one for each new base: with whom they serve, by the name there."""
    adapters: dict[Path, list[tuple[Subject, Servable, Path]]] = {}
    for one in subjects:
        way = ways[one.name]
        folder = None if way is None else way.folder(one.name, one.work)
        if way is None or folder is None or one.is_served:
            continue
        if way.is_base:
            yield Serving(base=folder, adapters={}), {"": one}
        else:
            adapters.setdefault(one.base, []).append((one, way, folder))
    for base, some in adapters.items():
        folders = {plain(one.name): folder for one, _, folder in some}
        rank = max(way.rank for _, way, _ in some)
        yield Serving(base=base, adapters=folders, rank=rank), {plain(one.name): one for one, _, _ in some}


def _at_once(what: str, work: Callable[[_Given], _Found], given: Sequence[_Given]) -> list[_Found]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(tqdm(pool.map(work, given), total=len(given), desc=what))
