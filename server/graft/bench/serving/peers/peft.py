"""PEFT's own way to mix adapters in a batch: `generate(adapter_names=[…])`, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.peers.contenders import Row
from graft.bench.serving.processes import BenchFailed

_BASE = "__base__"


class PeftContender:
    """Every row of a batch has its adapter's name; greedy, with the key-value cache, all rows of one length."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    async def load(cls, base: Base, form: ServingForm, adapters: Sequence[Path]) -> PeftContender:
        """Raises `BenchFailed` for a form that transformers does not hold as the engine does."""
        check_form(form)
        return cls(await asyncio.to_thread(load_model, base, form, adapters))

    async def complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        return await asyncio.to_thread(self._complete, rows, max_tokens)

    def _complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        import torch

        ids = torch.tensor([row.prompt for row in rows])
        names = [_BASE if row.adapter is None else adapter_name(row.adapter) for row in rows]
        with torch.inference_mode():
            answers = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                adapter_names=names,
                do_sample=False,
                min_new_tokens=max_tokens,
                max_new_tokens=max_tokens,
                pad_token_id=0,
            )
        return int(answers.numel() - ids.numel())


def check_form(form: ServingForm) -> None:
    """Raises `BenchFailed` for a form that transformers does not hold as the engine does."""
    if form not in (ServingForm.BF16, ServingForm.FP32, ServingForm.NF4):
        raise BenchFailed(f"transformers does not hold form {form.value} as the engine does")


def adapter_name(number: int) -> str:
    """What `load_model` calls an adapter."""
    return f"adapter-{number}"


def load_model(base: Base, form: ServingForm, adapters: Sequence[Path]) -> Any:
    """A `PeftModel` with every adapter in the precision in which the engine holds them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(
        base.path,
        dtype=torch.float32 if form == ServingForm.FP32 else torch.bfloat16,
        quantization_config=quantized if form == ServingForm.NF4 else None,
        local_files_only=True,
    )
    first, *others = adapters
    peft = PeftModel.from_pretrained(model, first, adapter_name=adapter_name(0), autocast_adapter_dtype=False)
    for number, folder in enumerate(others, start=1):
        peft.load_adapter(folder, adapter_name=adapter_name(number), autocast_adapter_dtype=False)
    for name, parameter in peft.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(model.dtype)  # the precision in which the engine holds them
    return peft.eval()
