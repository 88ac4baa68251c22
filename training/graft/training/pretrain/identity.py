"""What decides the result of a pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.job.folder import DATA, Identity
from graft.training.loop.optim import Schedule
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.settings.settings import CONTROLS, ELSEWHERE, SCHEDULE, TOLD

_FREE = ELSEWHERE | CONTROLS | SCHEDULE | TOLD | {"gradient_accumulation_steps", "text", "tokenizer"}
"""Settings that a resumed run may change, or whose effect is compared in place of their value."""


def identity(
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    mesh: Mesh,
    schedule: Schedule,
    text_digests: Sequence[str],
) -> Identity:
    """``text_digests`` are of each file or folder that was named."""
    free = _FREE if settings.float8 else _FREE | {"float8"}  # as before there was such a setting
    values = {name: value for name, value in asdict(settings).items() if name not in free}
    values |= {
        "micro-batches per step": settings.gradient_accumulation_steps * mesh.dp,
        "tokenizer": digest_of_json(tokenizer.get_vocab()).removeprefix(PREFIX)[:12],
        DATA: list(text_digests),
    }
    return Identity(values=values, schedule=schedule)
