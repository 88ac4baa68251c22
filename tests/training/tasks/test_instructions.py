"""Instruction tuning on real tasks: Self-Instruct's seeds, by encoder-decoders that are pretrained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from graft.cli.main import main
from graft.training.corpus import self_instruct
from graft.training.tasks.evaluation import Trained
from graft.training.tasks.job import made_in

MAX_CHARACTERS, NUM_HELD_OUT = 600, 40


@pytest.fixture(scope="module")
def rows(data_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files: to learn from, and to measure on."""
    found = self_instruct.read(data_path("instructions/seed_tasks.jsonl"))
    found = [row for row in found if sum(map(len, row.values())) <= MAX_CHARACTERS]
    Random(0).shuffle(found)
    folder = tmp_path_factory.mktemp("rows")
    for name, part in (("learned", found[NUM_HELD_OUT:]), ("held-out", found[:NUM_HELD_OUT])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder / "learned.jsonl", folder / "held-out.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_instructions_are_learned(
    family: str,
    rows: tuple[Path, Path],
    data_path: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learned, held_out = map(str, rows)
    base, text = tmp_path / "base", str(data_path("wikitext2/valid.txt"))
    sizes = ["--vocab-size", "2048", "--hidden-size", "128", "--num-hidden-layers", "2", "--num-attention-heads", "4"]
    options = [
        "--max-length",
        "256",
        "--per-device-train-batch-size",
        "8",
        "--max-steps",
        "250",
        "--optim",
        "muon",
        "--dtype",
        "float32",
    ]
    options += ["--dropout", "0", "--learning-rate", "2e-3", "--work", str(tmp_path / "work"), "--output", str(base)]
    assert main(["pretrain", "--text", text, "--family", family, *sizes, *options]) == 0
    task = ["finetune", "--task", "text2text-generation", "--base", str(base), "--data", learned, "--name", "n"]
    task += ["--validation", held_out, "--max-length", "256", "--max-target-length", "64", "--long-rows", "cut"]
    task += ["--per-device-train-batch-size", "16", "--dtype", "float32"]
    untrained = [*task, "--max-steps", "1", "--learning-rate", "1e-12", "--output", str(tmp_path / "untrained")]
    trained = [*task, "--num-train-epochs", "12", "--learning-rate", "1e-3", "--output", str(tmp_path / "trained")]
    best = ["--eval-steps", "42", "--load-best-model-at-end"]
    assert main(untrained) == 0 and main([*trained, *best]) == 0
    before, after = (
        Trained.of(made_in(tmp_path / name), None).measure(Path(held_out)) for name in ("untrained", "trained")
    )
    with capsys.disabled():
        print(f"\n{family}, {NUM_HELD_OUT} held-out rows:", end=" ")
        print(", ".join(f"{name} {before[name]:.3f} → {value:.3f}" for name, value in after.items()))
    assert after["loss"] < before["loss"] - 0.3
