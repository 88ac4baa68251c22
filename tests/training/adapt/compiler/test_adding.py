"""Adapters add up: what peft merges of each, weighted, is what it merges of the sum."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peft
import pytest

from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterVersion, Provenance
from graft.adapters.base.base import Base
from graft.adapters.folder.adding import Term, added
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.form import ServingForm
from tests.training.adapt.compiler.making import EXACT, by_peft, trained, updates

OTHERS: dict[str, Any] = {
    "of other layers": lambda: peft.LoraConfig(r=3, lora_alpha=2, target_modules=["q_proj", "up_proj"]),
    "rank-stabilised": lambda: peft.LoraConfig(r=3, lora_alpha=2, target_modules=["down_proj"], use_rslora=True),
    "with patterns": EXACT["patterns"],
}


def term(base: Base, folder: Path, weight: float) -> Term:
    manifest = read_manifest(folder)
    version = AdapterVersion(
        digest="sha256:" + "0" * 64, adapter=folder.name, tenant="default", number=1, base=base.identity,
        form=ServingForm.BF16, rank=manifest.rank, alpha=manifest.alpha, target_modules=manifest.target_modules,
        files=manifest.files, size_bytes=manifest.size_bytes, provenance=Provenance.DECLARED,
        lineage=UNKNOWN_LINEAGE, create_time=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return Term(version=version, folder=folder, manifest=manifest, weight=weight)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_the_sum_is_the_sum(name: str, half: bool, tiny_base: Path, tmp_path: Path) -> None:
    base, weights = Base.from_folder(tiny_base), (0.7, -0.3)
    folders = [trained(tiny_base, one(), tmp_path / str(n)) for n, one in enumerate((EXACT["patterns"], OTHERS[name]))]
    if half:
        for folder in folders:
            model = by_peft(tiny_base, folder).bfloat16()
            model.save_pretrained(folder)
    total = tmp_path / "sum"
    total.mkdir()
    for file, data in added([term(base, *one) for one in zip(folders, weights, strict=True)], base):
        with (total / file).open("ab") as opened:
            opened.write(data)
    parts = [updates(tiny_base, folder) for folder in folders]
    expected = {
        path: sum(weight * part[path] for weight, part in zip(weights, parts, strict=True) if path in part)
        for path in parts[0].keys() | parts[1].keys()
    }
    found = updates(tiny_base, total)
    assert found.keys() == expected.keys()
    for path, update in expected.items():
        assert (found[path] - update).norm() <= 1e-6 * update.norm(), path
    ranks = [
        {path: one.shape[0] for path, one in read_manifest(folder).tensors.items() if "lora_A" in path}
        for folder in (*folders, total)
    ]
    assert ranks[2] == {path: ranks[0].get(path, 0) + ranks[1].get(path, 0) for path in ranks[0] | ranks[1]}
