"""Every method trained, made servable, served and asked without a server; what is known is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from graft.adapters.base.base import find_base
from graft.bench.training.forks import StageFailed, forked
from graft.bench.training.ledger import Ledger
from graft.bench.training.methods import bases, task
from graft.bench.training.methods.measured import Measured, accuracy_of
from graft.bench.training.methods.reference import Reference, base_says
from graft.bench.training.methods.route import Servable
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.serving import Serving
from graft.bench.training.methods.subject import Subject, key_of
from graft.bench.training.methods.trial import plain

_AT_ONCE = 2
"""Of what is not timed."""
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


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
    return accuracy_of(Said(**ledger.once("said", lambda: forked(base_says, base, prompts, log=log).value)))


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
