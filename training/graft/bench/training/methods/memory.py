"""What a training takes of memory where weights are most of it: QLoRA beside LoRA on bfloat16 and full fine-tuning,
three steps each by ``graft finetune`` on a Llama of 101M random parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from graft.adapters.base.base import find_base
from graft.bench.training.comparison import RATIO, Figure
from graft.bench.training.forks import Done, forked, graft
from graft.bench.training.methods import bases, task
from graft.bench.training.methods.trial import flag
from graft.bench.training.shape import Shape
from graft.training.job.export import write_base
from graft.training.model.loading import load_tokenizer

SHAPE = Shape(width=1024, num_layers=8, num_heads=16, feed_forward=2816, vocab_size=384, rows=8, length=64)
COMMON = {"max_steps": "3", "per_device_train_batch_size": "8", "max_length": "64", "report_examples": "0"}
CASES: Mapping[str, Mapping[str, str]] = {
    "qlora": {"method": "lora", "bnb_4bit_use_double_quant": "true"},
    "lora_bf16": {"method": "lora", "load_in_4bit": "false"},
    "full_bf16": {"method": "full"},
}


def memory_figures(folder: Path) -> dict[str, Figure]:
    """``memory_CASE``, of the process and of it what came after the libraries, and QLoRA's share of the others' latter.
    Raises ``StageFailed``.
    """
    base, data = folder / "base", folder / "rows.jsonl"
    forked(random_base, base, log=folder / "base.log")
    task.write_rows(data, task.learned())
    found = {name: _trained(name, base, data) for name in tqdm(CASES, desc="memory of")}
    figures = {}
    for name, done in found.items():
        figures[f"memory_{name}"] = _figure(done.peak_bytes * 1e-6, "MB")
        figures[f"memory_{name}_own"] = _figure(done.own_bytes * 1e-6, "MB")
    for name in ("lora_bf16", "full_bf16"):
        figures[f"memory_qlora_vs_{name}"] = _figure(found["qlora"].own_bytes / found[name].own_bytes, RATIO)
    return figures


def random_base(folder: Path) -> None:
    """With the tokenizer of the shipped one."""
    tokenizer = load_tokenizer(find_base(bases.SHIPPED))
    write_base(SHAPE.model(torch.device("cpu")), tokenizer, folder, card="# random\n")


def _trained(name: str, base: Path, data: Path) -> Done:
    work = data.with_name(name)
    called = name.replace("_", "-")
    command = ["finetune", "--base", str(base), "--data", str(data), "--name", called, "--output", str(work)]
    settings: dict[str, Any] = {**COMMON, **CASES[name]}
    command += [part for one in settings.items() for part in flag(*one)]
    return graft(command, log=work.with_suffix(".log"))


def _figure(value: float, unit: str) -> Figure:
    return Figure(value=value, unit=unit, runs=(value,))
