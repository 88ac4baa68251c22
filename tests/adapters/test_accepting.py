"""The one way in: accepted whole, or refused whole with nothing visible (F5, F7)."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graft.adapters.adapter import AdapterVersion, Provenance
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.digest import sha256_of_file
from graft.adapters.errors import (
    GraftError,
    IncompatibleAdapter,
    InvalidAdapter,
    InvalidReference,
    NotFound,
    StoreFull,
)
from graft.adapters.form import ServingForm
from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from tests.adapters.making import make_adapter, make_base, make_tensors

Accept = Callable[..., AdapterVersion]
TENSORS = "adapter_model.safetensors"


def _files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_trained_adapter_keeps_its_origin(accept: Accept, base: Base, store: BlobStore, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    version = accept(folder)
    assert (version.number, version.provenance, version.form) == (1, Provenance.TRAINED, ServingForm.NF4)
    assert (version.lineage.job, version.lineage.seed) == ("jobs/1", 7)
    assert version.base == base.identity
    assert (version.rank, version.alpha, version.target_modules) == (4, 8.0, ("down_proj", "q_proj"))
    served = store.materialize(version)
    assert (served / TENSORS).read_bytes() == (folder / TENSORS).read_bytes()


def test_a_foreign_folder_is_declared_by_its_sender(accept: Accept, base: Base, tmp_path: Path) -> None:
    version = accept(make_adapter(tmp_path / "a"))
    assert (version.provenance, version.base, version.lineage.job) == (Provenance.DECLARED, base.identity, None)


def test_the_same_content_is_one_version_and_shares_its_files(
    accept: Accept, base: Base, catalog: Catalog, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    first = accept(folder)
    assert accept(folder) == first
    other = accept(folder, adapter="jane")
    assert other.digest == first.digest
    assert len(_files_below(tmp_path / "store")) == 3
    second = accept(make_adapter(tmp_path / "b", base=base, seed=2))
    assert second.number == 2
    assert [version.number for version in catalog.versions("default", "joe").items] == [1, 2]


def test_broken_numbers_and_a_wrong_base_are_said_together(accept: Accept, tmp_path: Path) -> None:
    tensors = make_tensors(rank=32)
    tensors[min(tensors)][0, 0] = np.nan
    other = make_base(tmp_path / "other", seed=4)
    folder = make_adapter(tmp_path / "a", rank=32, tensors=tensors, base=other)
    with pytest.raises(InvalidAdapter) as caught:
        accept(folder)
    said = str(caught.value)
    assert "NaN" in said
    assert "rank 32" in said
    assert "base.weights_digest" in said


def test_refusals_leave_nothing_behind(accept: Accept, catalog: Catalog, base: Base, tmp_path: Path) -> None:
    cases: list[tuple[Path, dict[str, Any], type[GraftError]]] = [
        (make_adapter(tmp_path / "rank", rank=32, base=base), {}, IncompatibleAdapter),
        (make_adapter(tmp_path / "form", base=base, form=ServingForm.BF16), {}, IncompatibleAdapter),
        (make_adapter(tmp_path / "name", base=base), {"adapter": "../joe"}, InvalidReference),
        (tmp_path / "missing", {}, InvalidAdapter),
    ]
    zeros = {name: value * 0 for name, value in make_tensors().items()}
    cases.append((make_adapter(tmp_path / "noop", tensors=zeros, base=base), {}, IncompatibleAdapter))
    for folder, options, kind in cases:
        with pytest.raises(kind):
            accept(folder, **options)
    assert catalog.adapters().items == ()
    assert _files_below(tmp_path / "store") == []
    assert accept(tmp_path / "noop", allow_noop=True).number == 1
    with pytest.raises(NotFound, match="tenant"):
        accept(tmp_path / "noop", allow_noop=True, tenant="nobody")


def test_500_bit_flips_are_refused_or_change_the_digest(
    accept: Accept, base: Base, catalog: Catalog, tmp_path: Path
) -> None:
    """F7. Without a declared hash a flip in the payload is another adapter, never this one's digest."""
    folder = make_adapter(tmp_path / "a", base=base)
    original = accept(folder)
    data = (folder / TENSORS).read_bytes()
    header_bits = 8 * (8 + int.from_bytes(data[:8], "little"))
    rng = random.Random(7)
    bits = rng.sample(range(header_bits), 400) + rng.sample(range(header_bits, 8 * len(data)), 100)
    refused = 0
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / TENSORS).write_bytes(damaged)
        try:
            version = accept(folder)
        except (InvalidAdapter, IncompatibleAdapter):
            refused += 1
        else:
            assert bit >= header_bits
            assert version.digest != original.digest
    assert refused >= 400
    assert len(catalog.versions("default", "joe", page_size=1000).items) == 501 - refused


def test_500_bit_flips_on_the_way_are_all_refused_when_hashes_are_declared(base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    staging = Staging(tmp_path / "staging")
    rng = random.Random(11)
    for _ in range(500):
        name = rng.choice(sorted(contents))
        damaged = bytearray(contents[name])
        bit = rng.randrange(8 * len(damaged))
        damaged[bit // 8] ^= 1 << bit % 8
        upload = staging.begin()
        for sent, data in contents.items():
            upload.write(sent, bytes(damaged) if sent == name else data)
        with pytest.raises(InvalidAdapter) as caught:
            upload.commit(hashes)
        upload.abort()
        assert [reason.field for reason in caught.value.reasons] == [name]
    staging.close()


def test_files_that_change_during_the_import_are_refused(
    accept: Accept, base: Base, store: BlobStore, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    put_files = store.put_files

    def change_first(path: Path, names: Any, **options: Any) -> Any:
        with (path / TENSORS).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x7f")
        return put_files(path, names, **options)

    monkeypatch.setattr(store, "put_files", change_first)
    with pytest.raises(InvalidAdapter, match="changed while it was read"):
        accept(folder)
    assert catalog.adapters().items == ()


@pytest.mark.parametrize("step", ["copyfile", "fsync", "rename", "mkdir"])
def test_a_full_disk_is_said_and_leaves_nothing_partial(
    accept: Accept, base: Base, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """F5: at every step, also after a part was written."""
    folder = make_adapter(tmp_path / "a", base=base)

    def full(*args: Any, **kwargs: Any) -> None:
        if step == "copyfile":
            Path(args[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    module, name = {
        "copyfile": (shutil, "copyfile"),
        "fsync": (os, "fsync"),
        "rename": (Path, "rename"),
        "mkdir": (Path, "mkdir"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(StoreFull, match="No space left"):
            accept(folder)
    assert catalog.adapters().items == ()
    assert _files_below(tmp_path / "store") == []
    assert _files_below(tmp_path / "local") == []
    assert accept(folder).number == 1


def test_a_private_folder_is_taken_over_without_a_copy(
    accept: Accept, base: Base, store: BlobStore, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    again = make_adapter(tmp_path / "b", base=base)
    (folder / "notes.txt").write_text("not part of the adapter")
    hashes = {path.name: sha256_of_file(path) for path in again.iterdir()}
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    version = accept(folder, sha256=hashes)
    assert not folder.exists()
    local = store.materialize(version)
    assert {path.name: path.stat().st_ino for path in local.iterdir()} == {name: inodes[name] for name in hashes}
    assert store.integrity(version) == ()
    # A second time the folder stays where it is, and all is as before.
    assert accept(again, sha256=hashes).number == 1
    assert store.materialize(version) == local


def test_a_repeated_request_is_answered_again(accept: Accept, base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    first = accept(folder, request_id="r-1")
    assert accept(folder, request_id="r-1") == first
    other = make_adapter(tmp_path / "b", base=base, seed=2)
    with pytest.raises(GraftError, match="request_id r-1 was used for another call"):
        accept(other, request_id="r-1")


# What peft 0.21.2 writes for LoraConfig(r=4, lora_alpha=8, target_modules=[...], task_type="CAUSAL_LM").
PEFT_CONFIG = """{
  "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
  "base_model_name_or_path": "org/tiny", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
  "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
  "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
  "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.05,
  "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
  "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
  "rank_pattern": {}, "revision": null, "target_modules": ["q_proj", "down_proj"], "target_parameters": null,
  "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
  "use_qalora": false, "use_rslora": false, "velora_config": null
}"""


def test_what_peft_writes_is_accepted(accept: Accept, base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    (folder / "adapter_config.json").write_text(PEFT_CONFIG)
    assert accept(folder).number == 1
