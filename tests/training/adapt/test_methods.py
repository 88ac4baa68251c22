"""Every method learns what peft would, is written as peft reads it, and goes on after an end as if there was none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.made import reference
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.methods.catalog import MAKERS, method_of
from graft.training.adapt.settings import METHODS as NAMES
from graft.training.adapt.settings import AdaptSettings
from graft.training.batch.packing import Encoded, batch_of_rows
from graft.training.finetune import job as finetuning
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.loop import progress
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base
from graft.training.objective.causal import CausalObjective
from tests.training.adapt.choices import METHODS

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


def test_every_method_that_can_be_named_is_there() -> None:
    assert tuple(MAKERS) == NAMES
    assert {*METHODS, "bitfit"} == set(NAMES)


def loss_of_objective(model: nn.Module, objective: Any, ids: list[int]) -> float:
    """Of one row, all of which is learned, behind which padding follows."""
    row = Encoded(input_ids=ids, supervised=[True] * len(ids))
    batch = batch_of_rows([[row]], length=len(ids) + 3, pad_id=0)
    sums, counts = objective.sums(model.train(), batch), objective.counts(batch)
    means = [weight * sums[name].item() / counts[name] for name, weight in objective.weights.items()]
    return float(sum(means))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("houlsby", "pfeiffer", "full")])
def test_loss_and_gradient_are_those_of_plain_peft_with_what_was_written(
    name: str, tiny_base: Path, tmp_path: Path
) -> None:
    base = Adaptable.of(Base.from_folder(tiny_base))
    method = method_of(AdaptSettings.from_mapping({"method": name, **METHODS[name]}))
    model = method.inject(load_base(tiny_base, ServingForm.FP32), base, seed=0)
    generator = torch.Generator().manual_seed(0)
    for one in model.parameters():
        if one.requires_grad:
            one.data += torch.randn(one.shape, generator=generator) / 20
    learning, ids = method.learning(model, 10), [5, 9, 13, 40, 41, 9, 77]
    found = loss_of_objective(model, learning.objective(CausalObjective()), ids)
    method.save(model, whole_adapter(model), tmp_path)
    learns = name == "adalora"  # only then it has the penalty
    plain = PeftModel.from_pretrained(load_base(tiny_base, ServingForm.FP32), tmp_path, is_trainable=learns)
    asked = torch.tensor([ids])
    task = {"task_ids": torch.tensor([0])} if name == "multitask_prompt_tuning" else {}
    labels = asked.index_fill(1, torch.tensor([0]), -100)  # peft would ask a prompt's last vector for the first token
    assert float(plain.train()(input_ids=asked, labels=labels, **task).loss) == pytest.approx(found, abs=1e-5)
    expected: Tensor = plain.eval()(input_ids=asked, **task).logits[:, -len(ids) :]
    assert torch.allclose(model.eval()(input_ids=asked).logits, expected, atol=1e-5)


def job(base: Path, folder: Path, **settings: Any) -> Finetune:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    checked = FinetuneSettings.from_mapping(
        {"per_device_train_batch_size": 4, "learning_rate": 0.01, "report_examples": 0, **settings}
    )
    return Finetune(base=Base.from_folder(base), data=data, settings=checked, work=folder / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}


@pytest.mark.parametrize("name", METHODS)
def test_what_ends_and_goes_on_gives_the_same_files(
    name: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the base as it is trained on by default: in NF4, but where its own weights learn."""
    monkeypatch.setattr(reference, "NUM_DRAWN_ROWS", 0)
    for module, name_of_picture in ((finetuning, "leave"), (progress, "draw_loss_curve")):
        monkeypatch.setattr(module, name_of_picture, lambda *_: None)  # half of a small training's time
    finetune = job(tiny_base, tmp_path, max_steps=3, save_steps=2, method=name, **METHODS[name])
    made = finetune.execute()
    losses = [row["loss"] for row in read_metrics(finetune.work)]
    assert losses[-1] < losses[0]
    before = contents(made)
    shutil.rmtree(made)
    shutil.rmtree(finetune.work / "checkpoint-3")
    assert contents(finetune.execute(resume=True)) == before
    assert [row["loss"] for row in read_metrics(finetune.work)] == losses
