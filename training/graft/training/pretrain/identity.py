"""What a pretraining is, so that no other is continued by mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.errors import OtherRun
from graft.training.job import prolonging
from graft.training.job.lineage import data_digest
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.optim import Schedule
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.settings.settings import CONTROLS, ELSEWHERE, SCHEDULE

FILE = "job.json"
_SCHEDULE = "schedule"
_FREE = (
    ELSEWHERE
    | CONTROLS
    | SCHEDULE
    | frozenset(
        (
            "gradient_accumulation_steps",
            "eval_steps",
            "gradient_checkpointing",
            "torch_compile",
            "validation",
            "text",
            "tokenizer",
            "tensorboard",
            "metrics_port",
        )
    )
)
"""Settings that a resumed run may change, or whose effect is compared in place of their value."""


def identity(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase, mesh: Mesh, schedule: Schedule
) -> dict[str, Any]:
    """All that decides the result, on whatever mesh."""
    values = {name: value for name, value in asdict(settings).items() if name not in _FREE}
    return {
        **values,
        "micro-batches per step": settings.gradient_accumulation_steps * mesh.dp,
        "tokenizer": digest_of_json(tokenizer.get_vocab()).removeprefix(PREFIX)[:12],
        "data": [data_digest(Path(path)) for path in settings.text],
        _SCHEDULE: asdict(schedule),
    }


def check(work: Path, now: Mapping[str, Any], *, further: str) -> int:
    """How many steps of the folder's checkpoints are also this training's: all, or those before its learning rates part
    from theirs, where a training was prolonged.

    Raises ``CheckpointError`` where they are another training's, naming what differs. ``further`` is what trains a
    finished model on.
    """
    if not complete_checkpoints(work):
        return 0
    try:
        before = json.loads((work / FILE).read_text(encoding="utf-8"))
        old = Schedule(**before[_SCHEDULE])
    except (OSError, ValueError, TypeError, KeyError):
        raise OtherRun(
            f"{work} holds checkpoints of an unknown training, or of an earlier version's: its {FILE} does not say "
            "which. Choose another --work."
        ) from None
    changed = [
        f"{name} was {before.get(name)!r} and is {now[name]!r}"
        for name in now
        if name != _SCHEDULE and before.get(name) != now[name]
    ]
    if changed:
        raise OtherRun(
            f"{work} holds checkpoints of another training: {'; '.join(changed)}. Take that back, or choose another "
            "--work."
        )
    return prolonging.num_shared(work, old, Schedule(**now[_SCHEDULE]), further=further)


def claim(work: Path, now: Mapping[str, Any], num_kept: int) -> None:
    """Makes the folder this training's; checkpoints after ``num_kept`` steps are not on its way."""
    prolonging.leave(work, num_kept)
    work.mkdir(parents=True, exist_ok=True)
    draft = work / f".{FILE}"
    draft.write_text(json.dumps(now, indent=1), encoding="utf-8")
    draft.rename(work / FILE)
