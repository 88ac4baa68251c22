"""A training that goes on from an adapter begins where that one ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.training.errors import CheckpointError, ConfigurationError
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.worker.planning import planned
from tests.training.finetune.test_finetune import ROWS, write_rows

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def base(tiny_base: Path) -> Base:
    return Base.from_folder(tiny_base)


def job(base: Base, folder: Path, **settings: object) -> Finetune:
    folder.mkdir(exist_ok=True)
    data = write_rows(folder / "rows.jsonl", ROWS)
    few = {"per_device_train_batch_size": 4, "learning_rate": 0.01, "report_examples": 0, "max_steps": 3}
    checked = FinetuneSettings.from_mapping({**few, **settings})
    return Finetune(base=base, data=data, settings=checked, work=folder / "run")


def losses(training: Finetune) -> list[float]:
    return [json.loads(line)["loss"] for line in (training.work / "metrics.jsonl").read_text().splitlines()]


def test_it_begins_with_the_weights_and_shape_of_the_adapter(base: Base, tmp_path: Path) -> None:
    first = job(base, tmp_path / "first", r=4, lora_alpha=8, max_steps=8)
    made = first.execute()
    # Steps too small for the weights' type: what comes out is what went in, and the loss that of the adapter.
    still = job(base, tmp_path / "still", start=str(made), learning_rate=1e-30)
    again = still.execute()
    before, after = load_file(made / WEIGHTS), load_file(again / WEIGHTS)
    assert before.keys() == after.keys() and all(bool((before[name] == after[name]).all()) for name in before)
    config = json.loads((again / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert losses(still)[0] < losses(first)[0]
    further = job(base, tmp_path / "further", start=str(made), max_steps=8)
    further.execute()
    assert losses(further)[-1] < losses(still)[0]


@pytest.mark.slow
def test_another_start_is_another_training_and_another_folder_is_not(base: Base, tmp_path: Path) -> None:
    starts = [job(base, tmp_path / name, seed=seed, max_steps=1).execute() for seed, name in enumerate(("a", "b"))]
    job(base, tmp_path / "run", start=str(starts[0]), save_steps=1).execute()
    moved = shutil.copytree(starts[0], tmp_path / "moved")
    job(base, tmp_path / "run", start=str(moved), max_steps=4).execute(resume=True)
    with pytest.raises(CheckpointError, match="start"):
        job(base, tmp_path / "run", start=str(starts[1]), max_steps=5).execute(resume=True)


def test_what_nothing_can_go_on_from(base: Base, tmp_path: Path) -> None:
    made = job(base, tmp_path / "made", max_steps=1).execute()
    with pytest.raises(ConfigurationError, match="the method is dora: take lora"):
        job(base, tmp_path / "x", start=str(made), method="dora").execute()
    with pytest.raises(ConfigurationError, match="is no PEFT folder"):
        job(base, tmp_path / "y", start=str(tmp_path)).execute()
    config = json.loads((made / "adapter_config.json").read_text())
    (made / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ConfigurationError, match="is not plain LoRA"):
        job(base, tmp_path / "z", start=str(made)).execute()
    (made / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    with pytest.raises((ConfigurationError, RuntimeError)):
        job(base, tmp_path / "w", start=str(made)).execute()


@pytest.mark.slow
def test_a_plan_is_what_the_training_then_does(base: Base, tmp_path: Path) -> None:
    """Counted by the training itself: its steps, their tokens, and those that carried loss."""
    training = job(base, tmp_path, max_steps=None, num_train_epochs=2.0)
    plan = planned(training, tried=tmp_path / "tried")
    assert not (tmp_path / "tried").exists() and not training.work.exists()
    training.execute()
    rows = [json.loads(line) for line in (training.work / "metrics.jsonl").read_text().splitlines()]
    assert plan.num_steps == len(rows) and plan.trained_tokens == sum(row["tokens"] for row in rows)
    assert 2 * plan.num_learned_tokens == sum(row["supervised_tokens"] for row in rows)
    assert plan.num_rows == plan.num_examples == len(ROWS) and plan.num_tokens * 2 == plan.trained_tokens
    assert plan.HasField("duration") and plan.duration.ToMilliseconds() > 0
    pieces = [(piece.text, piece.is_learned) for piece in plan.examples[1].pieces]
    assert pieces == [(ROWS[1]["prompt"], False), (ROWS[1]["completion"] + "<|eos|>", True)]
