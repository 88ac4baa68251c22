"""Real reviews: the Stanford Sentiment Treebank by an encoder, by a decoder with a head, and by LoRA with one; three
seeds each. What was measured stands in LOG.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.training.evaluation.statistics.proportions import wilson
from graft.training.tasks.job import last_measured
from graft.training.tasks.record import TaskRecord

pytestmark = pytest.mark.slow

NUM_SEEDS = 3
DataPath = Callable[[str], Path]


def accuracies(folder: Path, data_path: DataPath, *options: str) -> list[float]:
    """On the test set, of each seed."""
    train, test = (str(data_path(f"sst2/{name}.tsv")) for name in ("train", "test"))
    found = []
    for seed in range(NUM_SEEDS):
        output = folder / str(seed)
        named = ["--task", "text-classification", "--data", train, "--validation", test, "--seed", str(seed)]
        named += ["--name", "sst2", "--output", str(output), "--per-device-train-batch-size", "32"]
        assert main(["finetune", *named, *options, "--eval-steps", "100000"]) == 0
        found.append(last_measured(output)["accuracy"])
        (made,) = [one for one in (output / "model", output / "adapter") if one.is_dir()]
        assert TaskRecord.read(made).metrics["accuracy"] == found[-1]
    num, mean = len(Path(test).read_text().splitlines()), sum(found) / NUM_SEEDS
    low, high = wilson(round(mean * num), num)  # over reviews; the seeds stand beside it
    each = ", ".join(f"{100 * one:.1f}" for one in found)
    print(f"{' '.join(options)}: {100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {num} reviews ({each})")
    return found


def test_by_an_encoder_that_is_pretrained_here(tmp_path: Path, data_path: DataPath) -> None:
    base, text = tmp_path / "encoder", str(data_path("wikitext2/valid.txt"))
    sizes = ["--vocab-size", "2048", "--hidden-size", "128", "--num-hidden-layers", "2", "--num-attention-heads", "2"]
    options = [
        "--max-length",
        "64",
        "--per-device-train-batch-size",
        "32",
        "--learning-rate",
        "2e-3",
        "--max-steps",
        "800",
    ]
    work = ["--work", str(tmp_path / "work"), "--output", str(base)]
    assert main(["pretrain", "--text", text, "--family", "bert", *sizes, *options, *work]) == 0
    learned = ["--learning-rate", "5e-4", "--max-length", "64", "--long-rows", "cut", "--max-steps", "430"]
    assert min(accuracies(tmp_path, data_path, "--base", str(base), *learned)) > 0.7


@pytest.mark.parametrize(
    "options", [["--method", "full", "--learning-rate", "5e-4"], ["--method", "lora", "--learning-rate", "2e-3"]]
)
def test_by_a_decoder_with_a_head(tmp_path: Path, data_path: DataPath, options: list[str]) -> None:
    learned = ["--max-length", "320", "--max-steps", "110"]
    assert min(accuracies(tmp_path, data_path, *options, *learned)) > 0.55
