"""What stands in one report beside the table of methods: comparisons of more than one training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from graft.bench.training.comparison import Figure
from graft.bench.training.ledger import Ledger
from graft.bench.training.methods.memory import memory_figures
from graft.bench.training.methods.subject import key_of
from graft.bench.training.speeds import sft_speeds, together_speeds

Part = Callable[[Path], Mapping[str, Figure]]
"""Gets an empty folder to work in, and returns figures by the names that they have in the JSON. Raises
``TrainingError``.
"""

PARTS: Mapping[str, Part] = {"memory": memory_figures, "sft": sft_speeds, "together": together_speeds}
"""By the name that ``--only`` knows. A new comparison is a line here."""


def part(name: str, work: Path) -> dict[str, Figure]:
    """What is known in ``work`` already is not measured again. Raises ``TrainingError``."""

    def made() -> dict[str, dict[str, object]]:
        folder = work / f"{name}-part"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was ended
        folder.mkdir()
        return {figure: asdict(one) for figure, one in PARTS[name](folder).items()}

    found = Ledger(work / f"{name}-part.json", key_of(name)).once("figures", made)
    return {figure: Figure(**{**one, "runs": tuple(one["runs"])}) for figure, one in found.items()}
