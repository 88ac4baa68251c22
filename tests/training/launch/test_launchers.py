"""A training that loses a worker to SIGKILL ends with the loss curve of one process that was left alone."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft.training.corpus.demo import demo_rows
from graft.training.loss_curve import METRICS

NUM_STEPS, KILLED_AFTER = 60, 13
SETTINGS = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 300,
    "max_length": 64,
    "per_device_train_batch_size": 4,
    "max_steps": NUM_STEPS,
    "save_steps": 5,
    "dtype": "float32",
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def write_text(folder: Path) -> Path:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=4)) for _ in range(50)]
    lines = [json.dumps({"text": " ".join(rng.choices(words, k=40))}) for _ in range(600)]
    path = folder / "text.jsonl"
    path.write_text("\n".join(lines))
    return path


def arguments(folder: Path, name: str, text: Path, **settings: object) -> list[str]:
    config = folder / f"{name}.json"
    config.write_text(json.dumps({**SETTINGS, "text": [str(text)], **settings}))
    return ["pretrain", "--config", str(config), "--output", str(folder / name), "--work", str(folder / f"{name}-work")]


def curve(folder: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / f"{name}-work" / METRICS).read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    folder = tmp_path_factory.mktemp("alone")
    command = arguments(folder, "alone", write_text(folder), gradient_accumulation_steps=2)
    subprocess.run([sys.executable, "-m", "graft.cli.main", *command], check=True, timeout=300, capture_output=True)
    return curve(folder, "alone")


def holder_of(path: Path) -> int | None:
    """The process that writes a file."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if any(one.readlink() == path for one in (entry / "fd").iterdir()):
                    return int(entry.name)
            except OSError:
                continue
    return None


def run_and_kill_a_worker(command: list[str], work: Path) -> str:
    """Returns what was said; the worker that is killed is the one that speaks for all."""
    metrics = work / METRICS
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 200
        while not metrics.exists() or metrics.read_text().count("\n") < KILLED_AFTER:
            assert process.poll() is None and time.monotonic() < deadline, "the training did not come so far"
            time.sleep(0.02)
        worker = holder_of(metrics)
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "ray"])
def test_a_lost_worker_is_replaced_and_the_curve_is_the_same(
    launcher: str, tmp_path: Path, left_alone: dict[int, float]
) -> None:
    command = arguments(tmp_path, "two", write_text(tmp_path))
    started = {
        "torchrun": [*TORCHRUN, "--max-restarts", "2", "-m", "graft.cli.main", *command],
        "ray": [sys.executable, "-m", "graft.cli.main", *command, "--ray", "2"],
    }[launcher]
    run_and_kill_a_worker(started, tmp_path / "two-work")
    found = curve(tmp_path, "two")
    assert list(found) == list(range(NUM_STEPS)) == list(left_alone)
    assert max(abs(found[step] - left_alone[step]) for step in found) < 1e-5
    assert (tmp_path / "two" / "model.safetensors").exists()


def finetuned(folder: Path, name: str, start: list[str], **settings: object) -> tuple[dict[int, float], dict[str, Any]]:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("reverse", 43, seed=0)))
    config = folder / f"{name}.json"
    config.write_text(json.dumps({"per_device_train_batch_size": 4, "max_steps": 12, "r": 4, **settings}))
    command = [*start, "finetune", "--data", str(rows), "--name", "adapter", "--config", str(config)]
    subprocess.run([*command, "--output", str(folder / f"{name}-work")], check=True, timeout=300, capture_output=True)
    return curve(folder, name), load_file(folder / f"{name}-work" / "adapter" / "adapter_model.safetensors")


ROUNDED = 2 * math.sqrt(4 * 0.8 * 2**-8)
"""Share of what AdamW learns that rounding to bfloat16 decides, on any processor.

A gradient is divided by its own size: one that is smaller than its error sends its weight a whole step either way. Four
roundings (forward, backward, sum, weight) of 2^-8 each are larger than 4 · 0.8 · 2^-8 of normal gradients.
Such weights come out two steps apart, and the root is of their share of the squares. Where a process's rows were lost,
most weights would be others.
"""


@pytest.mark.parametrize("zero_stage", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_qlora_on_a_base_that_two_processes_share(zero_stage: int, tmp_path: Path) -> None:
    """NF4 bits lie in bfloat16 numbers, which FSDP2 shards; 43 rows leave a last step with fewer micro-batches."""
    alone = [sys.executable, "-m", "graft.cli.main"]
    expected, weights = finetuned(tmp_path, "alone", alone, gradient_accumulation_steps=2)
    found, shared = finetuned(tmp_path, "two", [*TORCHRUN, "-m", "graft.cli.main"], zero_stage=zero_stage)
    fall = expected[0] - min(expected.values())
    assert max(abs(found[step] - expected[step]) for step in expected) < ROUNDED * fall
    for name, one in weights.items():
        assert torch.linalg.norm((shared[name] - one).float()) < ROUNDED * torch.linalg.norm(one.float()), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh",
    [
        {"tp": 2, "gradient_accumulation_steps": 2},
        {"pp": 2, "gradient_accumulation_steps": 2},
        {"cp": 2, "gradient_accumulation_steps": 2, "gradient_checkpointing": True},
        {"dp_replicate": 2, "ema_decay": 0.9, "eval_steps": 10},
        {"zero_stage": 1, "optim": "adamw_8bit"},
        {"family": "electra", "dropout": 0.0},
    ],
    ids=lambda mesh: next(iter(mesh)),
)
def test_a_base_made_on_a_mesh_is_that_of_one_process(mesh: dict[str, object], tmp_path: Path) -> None:
    text = write_text(tmp_path)
    where = {"tp", "pp", "cp", "dp_replicate", "zero_stage"}
    common = {"max_steps": 20, "validation": str(text), **mesh, "gradient_accumulation_steps": 2}
    alone = arguments(tmp_path, "alone", text, **{key: value for key, value in common.items() if key not in where})
    two = arguments(tmp_path, "two", text, **{"max_steps": 20, "validation": str(text), **mesh})
    for start, command in (
        ([sys.executable, "-m", "graft.cli.main"], alone),
        ([*TORCHRUN, "-m", "graft.cli.main"], two),
    ):
        done = subprocess.run([*start, *command], timeout=300, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "two"))
    assert expected.keys() == found.keys()
    apart = sum(float((found[name] - one).square().sum()) for name, one in expected.items())
    assert apart**0.5 < 1e-4 * sum(float(one.square().sum()) for one in expected.values()) ** 0.5
    one, other = curve(tmp_path, "alone"), curve(tmp_path, "two")
    assert max(abs(one[step] - other[step]) for step in one) < 1e-5
