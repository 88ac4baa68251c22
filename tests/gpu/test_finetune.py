"""Fine-tuning and local evaluation on a CUDA device say what they say on a CPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base, find_base
from graft.adapters.form import ServingForm
from graft.training.evaluation.local import LocalAnswerer
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch.processes import Processes
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer

pytestmark = pytest.mark.gpu
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


def trained(folder: Path, device: str, **settings: Any) -> list[dict[str, Any]]:
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = FinetuneSettings.from_mapping(
        {"max_steps": 4, "validation": str(data), "eval_steps": 2, "per_device_train_batch_size": 4, **settings}
    )
    base = Base.from_folder(find_base("rootstock-5m"))
    job = Finetune(base=base, data=data, settings=made, work=folder / "work")
    adapter = job.execute(Processes(num=1, device=device))
    assert all(one.isfinite().all() for one in load_file(adapter / "adapter_model.safetensors").values())
    return read_metrics(job.work)


@pytest.mark.parametrize(
    "settings",
    [
        {"load_in_4bit": False},
        {"load_in_4bit": False, "gradient_checkpointing": True, "torch_compile": True},
        pytest.param({}, marks=needs_bitsandbytes),
        pytest.param({"load_in_8bit": True}, marks=needs_bitsandbytes),
    ],
    ids=["bf16", "bf16, compiled", "nf4", "llm-int8"],
)
def test_a_gpu_fine_tunes_as_a_cpu_does(settings: dict[str, Any], tmp_path: Path) -> None:
    found, expected = (trained(tmp_path / device, device, **settings) for device in ("cuda", "cpu"))
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)


def test_local_evaluation_says_the_same() -> None:
    base = find_base("rootstock-5m")
    here, there = (
        LocalAnswerer(load_base(base, ServingForm.FP32, device=torch.device(device)), load_tokenizer(base))
        for device in ("cpu", "cuda")
    )
    prompts, endings = ["Once upon a time", "2+2="], [" there was", "4"]
    assert there.score(prompts, endings) == [pytest.approx(one, abs=1e-2) for one in here.score(prompts, endings)]
