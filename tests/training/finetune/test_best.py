"""What is held out ends a training and chooses its weights, killed and resumed or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.cli.main import main
from graft.training.errors import CheckpointError, ConfigurationError
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.loop.best import Best
from graft.training.loop.checkpoint import Keeping, complete_checkpoints, step_of
from graft.training.loop.progress import read_metrics

WORDS = ("ant", "bee", "cat", "dog", "eel", "fox")
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "max_steps": 40,
    "eval_steps": 2,
    "learning_rate": 0.05,
    "lora_dropout": 0.1,
    "neftune_noise_alpha": 5.0,
    "label_smoothing_factor": 0.1,
    "report_examples": 0,
}


def job(base: Path, folder: Path, **settings: Any) -> Finetune:
    """What is learned and what is held out contradict each other, so that soon nothing gets better."""
    folder.mkdir(exist_ok=True)
    learned = folder / "rows.jsonl"
    learned.write_text("".join(json.dumps({"prompt": f"{one} ", "completion": one.upper()}) + "\n" for one in WORDS))
    held_out = folder.parent / "held.jsonl"
    held_out.write_text("".join(json.dumps({"prompt": f"{one} ", "completion": "???"}) + "\n" for one in WORDS))
    checked = FinetuneSettings.from_mapping({**COMMON, "validation": str(held_out), **settings})
    return Finetune(base=Base.from_folder(base), data=learned, settings=checked, work=folder / "run")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


def test_a_training_ends_with_its_best_weights_resumed_or_not(tiny_base: Path, tmp_path: Path) -> None:
    options = {"load_best_model_at_end": True, "early_stopping_patience": 2, "save_steps": 3, "save_total_limit": 1}
    whole = job(tiny_base, tmp_path / "whole", **options)
    best_weights = weights(whole.execute())
    losses = {row["step"] + 1: row["validation_loss"] for row in read_metrics(whole.work) if "validation_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 2 * 2 < 40  # two measurements without a better one
    assert len(read_metrics(whole.work)) == max(losses)
    steps = [step_of(path) for path in complete_checkpoints(whole.work)]
    assert steps == [best, max(losses)]
    assert same(weights(whole.work / f"checkpoint-{best}"), best_weights)

    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    again = job(tiny_base, tmp_path / "again", **options)
    shutil.rmtree(again.work / f"checkpoint-{max(losses)}")  # as if it had been killed before
    shutil.rmtree(again.work / "adapter")
    assert same(weights(again.execute(resume=True)), best_weights)
    assert [row["validation_loss"] for row in read_metrics(again.work) if "validation_loss" in row] == [
        *losses.values()
    ]
    shutil.rmtree(again.work / "adapter")
    assert same(weights(again.execute(resume=True)), best_weights)  # behind the end
    with pytest.raises(CheckpointError, match="early_stopping_patience was 2 and is 3"):
        job(tiny_base, tmp_path / "again", **{**options, "early_stopping_patience": 3}).execute(resume=True)

    last = job(tiny_base, tmp_path / "last", early_stopping_patience=2).execute()
    assert not same(weights(last), best_weights)


def test_patience_is_counted_in_measurements() -> None:
    best = Best(patience=2, loads=True)
    taken = [best.take(step, loss) for step, loss in enumerate([3.0, 2.0, float("nan"), 1.5, 1.5, 1.6], start=1)]
    assert taken == [True, True, False, True, False, False] and best.is_over and best.kept == 4
    other = Best(patience=2)
    other.restore(json.loads(json.dumps(best.state())))
    assert other.state() == best.state() and other.kept is None
    scores = Best(prefers_higher=True)
    assert [scores.take(step, score) for step, score in enumerate([0.5, 0.4, 0.6, 0.6])] == [True, False, True, False]
    assert Keeping(newest=1).superfluous([1, 2, 3, 4], 2) == [1, 3]


def test_a_split_is_measured_on(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{one} ", "completion": "x"}) + "\n" for one in range(20)))
    named = ["--base", str(tiny_base), "--data", str(rows), "--name", "n", "--output", str(tmp_path / "out")]
    assert main(["finetune", *named, "--max-steps", "2", "--validation-split", "0.1", "--report-examples", "0"]) == 0
    assert "after 2 steps on 0.1 of the rows: loss" in capsys.readouterr().out


def test_what_measures_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'early_stopping_patience' looks at what is held out"):
        FinetuneSettings.from_mapping({"early_stopping_patience": 2})
    with pytest.raises(ConfigurationError, match="take one of them"):
        FinetuneSettings.from_mapping({"validation": "a.jsonl", "validation_split": 0.1})
