"""A base is written from the model that was trained, before anything else is asked of the device."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from graft.training.errors import TrainingError
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.held_out import HeldOut
from graft.training.loop.step import Step
from graft.training.model.loading import parts
from graft.training.parallel.layout import Layout
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain import finished
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.finished import whole_model
from tests.training.pretrain.making import ALONE, job


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float32", "ema_decay": 0.9},
        {"ema_decay": 0.9, "gradient_checkpointing": True},
        {"family": "electra"},
        {"family": "t5", "vocab_size": 420},
        {"family": "gpt2", "dropout": 0.1},
    ],
    ids=["plain", "float32 mean", "mean", "two models", "tied", "dropout"],
)
def test_the_trained_model_is_what_the_checkpoint_holds(options: dict[str, Any], text: Path, tmp_path: Path) -> None:
    made = job(tmp_path, text, max_steps=3, **options)
    made.execute(ALONE, resume=False)
    assembly = Assembly.of(made.settings, AutoTokenizer.from_pretrained(made.work / "tokenizer"))
    model = whole_model(assembly, complete_checkpoints(made.work)[-1])
    for part, one in parts(model).items():
        one.save_pretrained(tmp_path / "expected" / part)
    files = [path.relative_to(tmp_path / "expected") for path in (tmp_path / "expected").rglob("*.safetensors")]
    assert len(files) == (2 if options.get("family") == "electra" else 1)
    for path in files:
        expected, found = (load_file(tmp_path / folder / path) for folder in ("expected", "base"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], one) for name, one in expected.items())
        there, here = ((tmp_path / folder / path).with_name("config.json") for folder in ("expected", "base"))
        assert json.loads(here.read_text()) == json.loads(there.read_text())


def test_nothing_of_the_training_is_held_when_it_is_measured(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optimizers, masters and gradients are gone, the folder is there, and no second model is made."""
    held: list[weakref.ref[Any]] = []
    finish, measure = Step.finish, HeldOut.measure
    made = job(tmp_path, text, max_steps=3, validation=str(text))

    def finishing(step: Step) -> nn.Module:
        held.extend(map(weakref.ref, [*step.state.optimizers, *step.state.masters.values()]))
        return finish(step)

    def measuring(held_out: HeldOut, model: nn.Module, layout: Layout | None = None) -> dict[str, float]:
        assert (made.output / "model.safetensors").exists() and len(held) > 5
        assert [one for one in held if one() is not None] == []
        assert all(one.grad is None for one in model.parameters())
        return measure(held_out, model, layout)

    def second(*_: Any) -> NoReturn:
        raise AssertionError("a second model")

    monkeypatch.setattr(Step, "finish", finishing)
    monkeypatch.setattr(HeldOut, "measure", measuring)
    monkeypatch.setattr(finished, "whole_model", second)
    metrics = made.execute(ALONE, resume=False)
    written = json.loads((made.output / "training.json").read_text())["metrics"]
    assert written["validation_loss"] == metrics["validation_loss"]
    assert f"{metrics['validation_perplexity']:.4g}" in (made.output / "README.md").read_text()


def test_a_base_that_cannot_be_measured_is_there(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    real = HeldOut.measure
    monkeypatch.setattr(HeldOut, "measure", full)
    made = job(tmp_path, text, max_steps=3, validation=str(text))
    with pytest.raises(TrainingError, match=r"is written and whole.*Tried to allocate 2.00 GiB"):
        made.execute(ALONE, resume=False)
    assert load_file(made.output / "model.safetensors")
    assert json.loads((made.output / "training.json").read_text())["metrics"] == {}
    monkeypatch.setattr(HeldOut, "measure", real)
    assert made.execute(ALONE, resume=True)["validation_loss"] > 0


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (Mesh(dp_replicate=4), True),
        (Mesh(dp_shard=4, zero_stage=1), True),
        (Mesh(dp_shard=4, zero_stage=2), False),
        (Mesh(tp=2), False),
        (Mesh(pp=2), False),
        (Mesh(cp=2), False),
    ],
)
def test_which_processes_have_the_model_at_hand(mesh: Mesh, expected: bool) -> None:
    assert mesh.keeps_whole is expected
