"""Random adapters are real adapters: the server's own reader takes them."""

from __future__ import annotations

from pathlib import Path

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import RANK, add_training_record, make_adapters, make_variants
from graft.bench.serving.shapes import SHAPES, context_of, make_base


def shipped() -> Base:
    return Base.from_folder(next(iter(shipped_bases().values())))


def test_adapters_and_variants_are_different_versions(tmp_path: Path) -> None:
    base = shipped()
    originals = make_adapters(base, tmp_path, 2)
    variants = make_variants(originals, tmp_path / "variants", 5)
    manifests = [read_manifest(folder) for folder in (*originals, *variants)]
    assert {manifest.rank for manifest in manifests} == {RANK}
    modules = {name.rpartition(".lora_")[0].removeprefix("base_model.model.") for name in manifests[0].tensors}
    assert modules == {name for name in base.modules if not name.endswith("lm_head")}
    configs = {(folder / "adapter_config.json").read_bytes() for folder in variants}
    assert len(configs) == len(variants)
    assert (variants[0] / "adapter_model.safetensors").samefile(variants[2] / "adapter_model.safetensors")


def test_the_training_record_names_the_base(tmp_path: Path) -> None:
    base = shipped()
    (folder,) = make_adapters(base, tmp_path, 1)
    add_training_record(base, ServingForm.NF4, folder)
    record = TrainedRecord.read(folder)
    assert record is not None
    assert record.base.digest == base.digest


def test_the_shipped_shape_is_the_shipped_base(tmp_path: Path) -> None:
    base = make_base(SHAPES["shipped"], tmp_path)
    assert base.path == shipped().path
    assert context_of(base) == 1024
