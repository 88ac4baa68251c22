"""Two steps of fine-tuning on the shipped base, to an adapter's folder: as bfloat16 and as NF4."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from graft.adapters.base.base import Base, find_base
from graft.bench.training.gpu.teller import Teller
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch.processes import Processes
from graft.training.loop.progress import read_metrics

_ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


def measure(teller: Teller) -> None:
    losses = {}
    for name, options in (("bf16", {"load_in_4bit": False}), ("nf4", {})):
        if name == "nf4" and find_spec("bitsandbytes") is None:
            teller.lacks("bitsandbytes: NF4 was not trained on")
            continue
        for device in (teller.device.type,) if teller.rehearses else ("cuda", "cpu"):
            losses[name, device] = _trained(teller, name, options, device)
        if not teller.rehearses:
            teller.figure(f"{name}: first loss, GPU − CPU", losses[name, "cuda"] - losses[name, "cpu"], "nats")


def _trained(teller: Teller, name: str, options: Mapping[str, object], device: str) -> float:
    """The first step's loss, which stands before any update."""
    with tempfile.TemporaryDirectory() as place:
        data, work = Path(place) / "rows.jsonl", Path(place) / "work"
        data.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
        settings = FinetuneSettings.from_mapping({"max_steps": 2, "per_device_train_batch_size": 4, **options})
        job = Finetune(base=Base.from_folder(find_base("rootstock-5m")), data=data, settings=settings, work=work)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        adapter = job.execute(Processes(num=1, device=device))
        teller.figure(f"{name} on {device}", ", ".join(sorted(one.name for one in adapter.iterdir())), "files")
        if device == "cuda":
            teller.figure(f"{name}: peak memory", torch.cuda.max_memory_allocated() / 1e6, "MB")
        return float(read_metrics(work)[0]["loss"])
