"""What a pretraining is, so that no other is continued by mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.checkpoint import complete_checkpoints
from graft.training.errors import CheckpointError
from graft.training.lineage import data_digest
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.settings import ELSEWHERE

FILE = "job.json"
_FREE = ELSEWHERE | frozenset(
    (
        "gradient_accumulation_steps",
        "save_steps",
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
"""Settings that a resumed run may change, or whose effect is compared in place of their value."""


def identity(settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase, mesh: Mesh) -> dict[str, Any]:
    """All that decides the result, on whatever mesh."""
    values = {name: value for name, value in asdict(settings).items() if name not in _FREE}
    return {
        **values,
        "micro-batches per step": settings.gradient_accumulation_steps * mesh.dp,
        "tokenizer": digest_of_json(tokenizer.get_vocab()).removeprefix(PREFIX)[:12],
        "data": [data_digest(Path(path)) for path in settings.text],
    }


def check(work: Path, now: Mapping[str, Any]) -> None:
    """Raises ``CheckpointError`` where the folder's checkpoints are another training's, naming what differs."""
    if not complete_checkpoints(work):
        return
    try:
        before = json.loads((work / FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{work} holds checkpoints of an unknown training ({error}): choose another --work."
        ) from None
    changed = [f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]]
    if changed:
        raise CheckpointError(
            f"{work} holds checkpoints of another training: {'; '.join(changed)}. Take that back, or choose another "
            "--work."
        )


def write(work: Path, now: Mapping[str, Any]) -> None:
    """Makes the folder this training's."""
    work.mkdir(parents=True, exist_ok=True)
    draft = work / f".{FILE}"
    draft.write_text(json.dumps(now, indent=1), encoding="utf-8")
    draft.rename(work / FILE)
