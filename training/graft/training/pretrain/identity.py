"""What decides the result of a pretraining."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.job.folder import DATA, Identity
from graft.training.job.lineage import data_digest
from graft.training.loop.optim import Schedule
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.settings.settings import CONTROLS, ELSEWHERE, SCHEDULE, TOLD

_FREE = ELSEWHERE | CONTROLS | SCHEDULE | TOLD | {"gradient_accumulation_steps", "text", "tokenizer"}
"""Settings that a resumed run may change, or whose effect is compared in place of their value."""


def identity(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase, mesh: Mesh, schedule: Schedule
) -> Identity:
    """Raises ``OSError`` where the text cannot be read."""
    values = {name: value for name, value in asdict(settings).items() if name not in _FREE}
    values |= {
        "micro-batches per step": settings.gradient_accumulation_steps * mesh.dp,
        "tokenizer": digest_of_json(tokenizer.get_vocab()).removeprefix(PREFIX)[:12],
        DATA: [data_digest(Path(path)) for path in settings.text],
    }
    return Identity(values=values, schedule=schedule)
