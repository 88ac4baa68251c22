"""What has a closed form becomes a LoRA adapter that changes the base as the original does; peft says how that is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.adapters.adapter import Lineage, Parent, Provenance, version_digest
from graft.adapters.base.base import Base
from graft.adapters.compatibility import Limits, incompatibilities
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.numbers import inspect_numbers
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference
from graft.adapters.form import ServingForm
from graft.training.adapt.compiler import closed_forms
from graft.training.adapt.compiler.compilation import Compilation
from graft.training.adapt.compiler.factors import Factors
from graft.training.adapt.method import Route
from graft.training.errors import NotTheSame
from tests.training.adapt.compiler.conftest import Compile, Compiled
from tests.training.adapt.compiler.making import EXACT, LESSENING, TARGETS, by_peft, logits, plain, trained, updates

RANKS = {
    "lora": {4}, "rslora": {4}, "patterns": {2, 4, 7}, "adalora": {6}, "loha": {16},
    "loha, longer than its layer": {128},
    "lokr": {32}, "lokr, both parts": {4}, "lokr, whole": {128}, "vera": {16}, "vera, without its projection": {16},
    "vblora": {4}, "mica": {4}, "pissa": {8}, "olora": {8},
}  # fmt: skip
"""Square layers are 128 wide; of LoHa r², of LoKr the left part's shorter side (8) times r, of PiSSA 2r."""


def assert_servable(made: Compiled, *, form: ServingForm) -> None:
    """By what a server asks of an adapter that comes in."""
    record, reference = TrainedRecord.read(made.output), Reference.read(made.output, vocab_size=made.base.vocab_size)
    assert record is not None and reference is not None
    assert (record.base, record.form, reference.form) == (made.base.identity, form, form)
    manifest = read_manifest(made.output)
    numbers = inspect_numbers(made.output, manifest)
    limits = Limits(max_rank=128, max_bytes=1 << 30, max_virtual_tokens=0)
    wrong = incompatibilities(
        manifest, made.base, limits, declared_base=record.base, form=form, serving_form=form, is_noop=numbers.is_noop
    )
    assert not numbers.reasons and not wrong


@pytest.mark.parametrize("name", [*EXACT, *LESSENING])
def test_the_update_is_the_originals(name: str, compiled: Compile, tiny_base: Path) -> None:
    made = compiled((EXACT | LESSENING)[name]())
    assert made.report.route is Route.EXACT
    assert json.loads((made.output / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert {one.rank for one in made.report.layers} == RANKS[name]
    assert made.report.num_parameters == sum(
        one.numel() for one in load_file(made.output / "adapter_model.safetensors").values()
    )
    there, here = updates(tiny_base, made.original), updates(tiny_base, made.output)
    assert there.keys() == here.keys() and len(there) >= 2
    for path, update in there.items():
        assert (here[path] - update).norm() <= 1e-5 * update.norm()
    said = logits(by_peft(tiny_base, made.original))
    torch.testing.assert_close(logits(by_peft(tiny_base, made.output)), said, rtol=1e-4, atol=1e-4)
    assert (said - logits(plain(tiny_base))).abs().max() > 1e-3
    assert_servable(made, form=ServingForm.BF16)


def test_what_peft_makes_of_pissa_itself_is_the_same(compiled: Compile, tiny_base: Path, tmp_path: Path) -> None:
    """Its own way to a plain LoRA (``path_initial_model_for_weight_conversion``) needs the adapter before training."""
    made = compiled(LESSENING["pissa"](), initial=True)
    model = by_peft(tiny_base, made.original)
    model.peft_config["default"].init_lora_weights = "pissa"
    model.save_pretrained(tmp_path / "by-peft", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    there, here = updates(tiny_base, tmp_path / "by-peft"), updates(tiny_base, made.output)
    for path, update in there.items():
        assert (here[path] - update).norm() <= 1e-5 * update.norm()


def test_an_initial_adapter_of_chance_must_be_given(compiled: Compile, tiny_base: Path) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights="pissa_niter_4")
    made = compiled(config, initial=True)
    assert made.report.route is Route.EXACT and made.report.rank == 8


def test_singular_values_of_zero_take_no_rank(compiled: Compile, tiny_base: Path, tmp_path: Path) -> None:
    """AdaLoRA's budget sets them to zero, and peft keeps the rows until it is told which."""
    made = compiled(EXACT["adalora"]())
    path = made.original / "adapter_model.safetensors"
    tensors = load_file(path)
    for name, one in tensors.items():
        if name.endswith("lora_E"):
            one[2:] = 0
    save_file(tensors, path)
    again = Compilation(adapter=made.original, base=made.base, form=ServingForm.BF16, output=tmp_path / "pruned")
    assert again.execute().rank == 2
    there, here = updates(tiny_base, made.original), updates(tiny_base, tmp_path / "pruned")
    assert all((here[path] - update).norm() <= 1e-5 * update.norm() for path, update in there.items())


def test_beside_an_nf4_base(compiled: Compile) -> None:
    """The update needs nothing of the base, so the base keeps its form."""
    made = compiled(EXACT["loha"](), form=ServingForm.NF4)
    assert made.report.route is Route.EXACT and made.report.nats < 1e-5
    assert_servable(made, form=ServingForm.NF4)


def test_its_chat_template_stays_with_it(tiny_base: Path, tmp_path: Path) -> None:
    original = trained(tiny_base, EXACT["lora"](), tmp_path / "original")
    (original / "chat_template.jinja").write_text("{{ messages[0].content }}")
    for name, merge in (("lora", False), ("base", True)):
        output, base = tmp_path / name, Base.from_folder(tiny_base)
        Compilation(adapter=original, base=base, form=ServingForm.BF16, output=output, merge=merge).execute()
        assert (output / "chat_template.jinja").read_text() == "{{ messages[0].content }}"


def test_a_trainers_record_stays_with_it(tiny_base: Path, tmp_path: Path) -> None:
    """And the digest of the parent is the one that a server would have given it."""
    original, base = trained(tiny_base, EXACT["loha"](), tmp_path / "original"), Base.from_folder(tiny_base)
    lineage = Lineage(job="finetune-1", data_digest="sha256:" + "d" * 64, code_version="0.1", seed=3)
    TrainedRecord(base=base.identity, form=ServingForm.BF16, lineage=lineage).write(original)
    digest = version_digest(
        files=read_manifest(original).files, base=base.identity, form=ServingForm.BF16,
        provenance=Provenance.TRAINED, lineage=lineage,
    )  # fmt: skip
    Compilation(adapter=original, base=base, form=ServingForm.BF16, output=tmp_path / "out").execute()
    record = TrainedRecord.read(tmp_path / "out")
    assert record is not None and record.provenance is Provenance.TRAINED
    assert record.lineage == replace(lineage, parents=(Parent(digest=digest, weight=1.0),))


def test_where_it_comes_from_is_kept(compiled: Compile, tiny_base: Path) -> None:
    """A foreign adapter's base was only stated: so it stays with what is compiled from it."""
    made = compiled(EXACT["loha"]())
    record = TrainedRecord.read(made.output)
    assert record is not None and record.provenance == "declared" and record.lineage.job is None
    (parent,) = record.lineage.parents
    assert parent.digest.startswith("sha256:") and parent.weight == 1.0
    assert made.report.lineage == record.lineage.record()


def test_a_wrong_formula_is_found_and_nothing_is_written(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every compilation is checked by: here AdaLoRA without its division by the ranks."""

    def wrong(layer: object) -> Factors:
        one = closed_forms._adalora(layer)
        return Factors(a_RI=one.a_RI, b_OR=one.b_OR * 6)

    monkeypatch.setitem(closed_forms._FORMS, peft.tuners.adalora.SVDLinear, wrong)
    with pytest.raises(NotTheSame, match="closed form is off"):
        compiled(EXACT["adalora"]())
    assert [path.name for path in tmp_path.iterdir()] == ["original"]
