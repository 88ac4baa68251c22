"""What a trainer leaves beside an adapter: its record and reference log-probabilities (transformers and peft)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base
from graft.adapters.folder import reference
from graft.adapters.folder.record import TRAINED_FILE
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import add_training_record
from graft.bench.serving.peers.peft import adapter_name, check_form, load_model

_NUM_ROWS, _NUM_TOKENS, _NUM_PROMPT_TOKENS = 8, 32, 16


async def add_receipts(base: Base, form: ServingForm, folders: Sequence[Path]) -> None:
    """Write `graft.json` and `reference.json` into every folder that has none. Raises `BenchFailed`."""
    missing = [folder for folder in folders if not (folder / reference.FILE_NAME).exists()]
    if not missing:
        return
    check_form(form)
    for folder, rows in zip(missing, await asyncio.to_thread(_computed, base, form, missing), strict=True):
        add_training_record(base, form, folder)
        Reference(form=form, rows=rows).write(folder)


def share_receipts(originals: Sequence[Path], variants: Sequence[Path]) -> None:
    """Give each variant its original's receipt: the scales differ by less than the receipt's tolerance."""
    for index, variant in enumerate(variants):
        for name in (TRAINED_FILE, reference.FILE_NAME):
            if not (variant / name).exists():
                shutil.copy(originals[index % len(originals)] / name, variant / name)


def _computed(base: Base, form: ServingForm, folders: Sequence[Path]) -> list[tuple[ReferenceRow, ...]]:
    """The rows of each folder. All adapters enter one model before anything is computed: bitsandbytes repacks NF4
    weights at the first use, and adapters that are put on or taken off later meet weights that they do not expect.
    """
    model = load_model(base, form, folders)
    found = []
    for number in range(len(folders)):
        model.set_adapter(adapter_name(number))
        model.eval()
        found.append(_rows(model))
    return found


def _rows(model: Any) -> tuple[ReferenceRow, ...]:
    """What the adapted model says at temperature 1: tokens drawn blindly would carry more of bfloat16's noise."""
    import torch

    torch.manual_seed(0)
    begin_R1 = torch.randint(16, model.config.vocab_size, (_NUM_ROWS, 1))
    num_more = _NUM_TOKENS - 1
    with torch.inference_mode():
        ids_RL = model.generate(
            input_ids=begin_R1,
            attention_mask=torch.ones_like(begin_R1),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            min_new_tokens=num_more,
            max_new_tokens=num_more,
            pad_token_id=0,
        )
        return tuple(_row(model, ids_L) for ids_L in ids_RL)


def _row(model: Any, ids_L: Any) -> ReferenceRow:
    """One row alone, without padding."""
    logprobs_LV = model(input_ids=ids_L[None]).logits[0].float().log_softmax(-1)
    answer_L = ids_L[_NUM_PROMPT_TOKENS:]
    logprobs = logprobs_LV[_NUM_PROMPT_TOKENS - 1 : -1].gather(1, answer_L[:, None]).flatten().tolist()
    return ReferenceRow(
        token_ids=tuple(ids_L.tolist()),
        num_prompt_tokens=_NUM_PROMPT_TOKENS,
        logprobs=tuple(round(each, 6) for each in logprobs),
    )
