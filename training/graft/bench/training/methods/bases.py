"""What the methods learn on: the shipped base, and what two of them need of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from graft.adapters.base.base import find_base
from graft.bench.training.forks import graft

SHIPPED = "rootstock-5m"
_WEIGHTS = "model.safetensors"


def shipped(work: Path) -> Path:
    """As it is: a trainer brings it into NF4 while it loads it, and so does a server."""
    return find_base(SHIPPED)


def in_nf4(work: Path) -> Path:
    """As ``graft quantize`` writes it, with double quantization: the very bits that are trained on are served."""
    folder = work / "bases" / "nf4"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        graft(["quantize", SHIPPED, "--form", "nf4", "--output", str(folder)], log=work / "nf4.log")
    return folder


def with_biases(work: Path) -> Path:
    """The same function, with a bias of zeros on every linear layer of its blocks: bitfit trains nothing else, and the
    shipped base has none.
    """
    folder, origin = work / "bases" / "with-biases", find_base(SHIPPED)
    if folder.exists():
        return folder
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(origin, draft)
    tensors = load_file(origin / _WEIGHTS)
    for name, one in list(tensors.items()):
        if name.endswith("_proj.weight"):
            tensors[f"{name.removesuffix('weight')}bias"] = torch.zeros(one.shape[0], dtype=one.dtype)
    save_file(tensors, draft / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((origin / "config.json").read_text(encoding="utf-8"))
    config |= {"attention_bias": True, "mlp_bias": True}
    (draft / "config.json").write_text(json.dumps(config), encoding="utf-8")
    draft.rename(folder)
    return folder
