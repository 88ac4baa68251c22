"""Tensors that a base's files hold and its model never loads: old Pythias come with their masks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.training.compress.quantize import MADE, Quantization
from graft.training.compress.share import outside_form
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_base
from graft.training.rootstock.corpus.demo import demo_rows
from tests.cases.harness.bases import WEIGHTS, change_weights, make_base
from tests.training.compress.test_quantize import TEXT

MASKS = {
    f"gpt_neox.layers.{layer}.attention.{name}": mask
    for layer in range(2)
    for name, mask in (
        ("masked_bias", torch.tensor(-1e9).half()),
        ("bias", torch.ones(1, 1, 128, 128, dtype=torch.bool).tril()),
    )
}


@pytest.fixture
def pythia(tmp_path: Path) -> Path:
    folder = make_base("pythia", tmp_path / "pythia")
    change_weights(folder, lambda tensors: tensors.update(MASKS))
    return folder


def quantize(base: Path, form: ServingForm, output: Path) -> Base:
    text = TEXT if form is ServingForm.INT4 else None
    return Quantization(base=Base.from_folder(base), form=form, output=output, text=text, num_tokens=1024).execute()


def finetune(base: Path, folder: Path) -> Path:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("shout", 8, seed=0, held_out=False)))
    settings = FinetuneSettings(max_steps=1, per_device_train_batch_size=4, r=4, max_length=128)
    return Finetune(base=Base.from_folder(base), data=rows, settings=settings, work=folder / "work").execute()


@pytest.mark.parametrize("form", MADE)
def test_quantizing_leaves_them_out_and_keeps_every_weight(form: ServingForm, pythia: Path, tmp_path: Path) -> None:
    made = quantize(pythia, form, tmp_path / "made")
    before, after = load_file(pythia / WEIGHTS), load_file(made.path / WEIGHTS)
    assert not MASKS.keys() & after.keys()
    weights = {name: one for name, one in before.items() if name not in MASKS}
    assert all(name in after or f"{name}_packed" in after for name in weights)
    plain = sum(one.numel() for name, one in weights.items() if name in after and after[name].is_floating_point())
    total = sum(one.numel() for one in weights.values())
    assert sum(outside_form(pythia, made.path).values()) == pytest.approx(plain / total)
    assert load_base(made.path, form)(torch.arange(260, 300)[None]).logits.isfinite().all()


def test_adapters_are_trained_on_such_a_base(pythia: Path, tmp_path: Path) -> None:
    assert finetune(pythia, tmp_path).is_dir()


@pytest.mark.parametrize("name", ["gpt_neox.layers.0.attention.dense.bias", "gpt_neox.embed_in.weight"])
def test_their_neighbours_are_looked_at(name: str, pythia: Path, tmp_path: Path) -> None:
    change_weights(pythia, lambda tensors: tensors[name].view(-1)[:1].fill_(math.nan))
    for command in (lambda: quantize(pythia, ServingForm.INT8, tmp_path / "made"), lambda: finetune(pythia, tmp_path)):
        with pytest.raises(InvalidBase, match="NaN or infinite") as caught:
            command()
        assert [reason.field for reason in caught.value.reasons] == [f"{WEIGHTS}:{name}"]
