"""Training on a CUDA device: the loss curve of the CPU, and a benchmark that measures MFU."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from graft.cli.main import main
from graft.training.launch.processes import Processes
from graft.training.loop.progress import METRICS
from graft.training.pretrain.job import PretrainText
from graft.training.pretrain.settings import PretrainSettings

pytestmark = pytest.mark.gpu


def losses(folder: Path, device: str, **settings: Any) -> list[float]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=4)) for _ in range(30)]
    text = folder / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": " ".join(rng.choices(words, k=40))}) for _ in range(200)))
    job = PretrainText(
        settings=PretrainSettings(
            text=(str(text),),
            hidden_size=64,
            num_hidden_layers=2,
            vocab_size=300,
            max_length=64,
            max_steps=20,
            **settings,
        ),
        work=folder / f"{device}-work",
        output=folder / device,
    )
    job.execute(Processes(num=1, device=device), resume=False)
    return [json.loads(line)["loss"] for line in (job.work / METRICS).read_text().splitlines()]


@pytest.mark.parametrize(
    "settings",
    [
        {"torch_compile": False},
        {"torch_compile": False, "family": "bert"},
        {"torch_compile": False, "family": "t5"},
        {"torch_compile": False, "gradient_checkpointing": "selective"},
        {"gradient_checkpointing": "full"},  # compiled, as all are by default
    ],
)
def test_a_gpu_learns_what_a_cpu_learns(settings: dict[str, Any], tmp_path: Path) -> None:
    on_cpu = {**settings, "torch_compile": False}
    found = losses(tmp_path, "cuda", dtype="float32", **settings)
    expected = losses(tmp_path, "cpu", dtype="float32", **on_cpu)
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 1e-3


def test_the_benchmark_measures_mfu(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert main(["bench", "training", "--pairs", "1", "--steps", "8", "--json", str(path)]) == 0
    assert 0 < json.loads(path.read_text())["mfu"]["value"] < 1
