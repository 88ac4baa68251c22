"""The table of methods: each trained, answered with by peft, made servable, served, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from graft.adapters.base.base import Base, find_base
from graft.bench.training.methods import task, trial
from graft.bench.training.methods.route import Servable, servable
from graft.bench.training.methods.serving import adapters_answers, base_answers
from graft.bench.training.methods.task import Row
from graft.bench.training.methods.trial import BASE, Trial, TrialFailed, plain
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.methods.catalog import method_of
from graft.training.model.structure import empty_decoder


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table."""

    trial: Trial
    servable: Servable
    num_parameters: int
    accuracy: float
    """By peft and transformers, of words that nothing asked about before."""
    served_accuracy: float | None = None
    num_equal: int | None = None
    """Of the served answers, those that are what the reference says: the trained adapter under peft, or the new base
    under transformers.
    """


def measure(names: Sequence[str], folder: Path) -> dict[str, Measured]:
    """Each method of ``names``. Raises ``TrialFailed``."""
    data, rows = folder / "rows.jsonl", task.asked()
    task.write_rows(data, task.learned())
    prompts = [row.prompt for row in rows]
    trials = {name: trial.run(name, data, folder) for name in tqdm(names, unit="method", desc="training")}
    ways = {name: servable(one, folder) for name, one in tqdm(trials.items(), unit="method", desc="compiling")}
    own = {name: _local(name, one.adapter, prompts) for name, one in tqdm(trials.items(), desc="asking peft")}
    served = _served(ways, prompts)
    return {
        name: _measured(one, ways[name], own[name], served.get(name), rows, prompts) for name, one in trials.items()
    }


def before() -> float:
    """The base's own accuracy."""
    rows = task.asked()
    return task.accuracy(rows, _local("base", Path(), [row.prompt for row in rows]))


def _served(ways: Mapping[str, Servable], prompts: Sequence[str]) -> dict[str, list[str]]:
    adapters = {name: one for name, one in ways.items() if one.folder is not None and not one.is_base}
    by_plain = {plain(name): one.folder for name, one in adapters.items() if one.folder is not None}
    rank = max((one.rank for one in adapters.values()), default=1)
    said = adapters_answers(by_plain, prompts, rank=rank) if by_plain else {}
    found = {name: said[plain(name)] for name in adapters}
    for name, one in tqdm([pair for pair in ways.items() if pair[1].is_base], unit="base", desc="serving bases"):
        assert one.folder is not None
        found[name] = base_answers(one.folder, prompts)
    return found


def _measured(
    one: Trial,
    way: Servable,
    own: Sequence[str],
    served: Sequence[str] | None,
    rows: Sequence[Row],
    prompts: Sequence[str],
) -> Measured:
    row = Measured(trial=one, servable=way, num_parameters=_num_parameters(one), accuracy=task.accuracy(rows, own))
    if served is None:
        return row
    reference = own
    if way.is_base:
        assert way.folder is not None
        reference = _local("merged", way.folder, prompts)
    equal = sum(a.split("\n")[0] == b.split("\n")[0] for a, b in zip(served, reference, strict=True))
    values = {**vars(row), "served_accuracy": task.accuracy(rows, served), "num_equal": equal}
    return Measured(**values)


def _num_parameters(one: Trial) -> int:
    """What learned, counted on a base without memory."""
    base = Base.from_folder(find_base(BASE))
    model = method_of(trial.settings_of(one.name)).inject(empty_decoder(base), Adaptable.of(base), seed=0)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _local(name: str, folder: Path, prompts: Sequence[str]) -> list[str]:
    """In a process of its own. Raises ``TrialFailed``."""
    done = subprocess.run(
        [sys.executable, "-m", "graft.bench.training.methods.local", name, str(folder)],
        input=json.dumps(prompts),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise TrialFailed(f"peft cannot answer with {folder}: {' '.join(done.stderr.strip().splitlines()[-2:])}")
    found: list[str] = json.loads(done.stdout)
    return found
