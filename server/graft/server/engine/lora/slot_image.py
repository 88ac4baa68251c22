"""An adapter laid out as the slots hold it: one file that the engine maps and copies, nothing to parse or to cast.

Made outside the engine's loop. The file is in safetensors format; for slice `i` of the engine's module `m` it holds
`m.i.a` [rank, in] and `m.i.b`, which is B transposed, [rank, out], times the adapter's scaling, in the engine's type;
and before them a head's weights, where the adapter brings one, in float32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from graft.adapters.folder.head import part_of
from graft.adapters.folder.lora_tensors import scaling
from graft.server.engine.lora.head import BIAS, WEIGHT
from graft.server.engine.lora.tensor_file import Scratch, map_tensors, write_tensors

SUFFIX = ".slot"
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")


class SlotLayout:
    """What an engine's slots hold: the base's modules that are the slices of each of its own, type and largest rank."""

    def __init__(self, modules: Mapping[str, Sequence[str]], dtype: torch.dtype, max_rank: int) -> None:
        self.dtype = dtype
        self.max_rank = max_rank
        self._places = {part: (name, index) for name, parts in modules.items() for index, part in enumerate(parts)}

    def place_of(self, module: str) -> tuple[str, int]:
        """The engine's module and the slice of it for a module of the base. Raises `ValueError`."""
        if module not in self._places:
            raise ValueError(f"the engine has no module {module} with adapter slots")
        return self._places[module]


def layout_of(reports: Sequence[Mapping[str, Any]]) -> SlotLayout | None:
    """The layout that several workers' slots have together: under pipeline parallelism each has some of the layers.

    None where a worker's adapters are loaded by vLLM, from their own files.
    """
    if not all(report["modules"] for report in reports):
        return None
    modules = {name: parts for report in reports for name, parts in report["modules"].items()}
    return SlotLayout(modules, getattr(torch, reports[0]["dtype"]), reports[0]["max_rank"])


def is_image(path: str) -> bool:
    """Whether a path names a slot image, and not a PEFT folder."""
    return path.endswith(SUFFIX)


def write_image(adapter: Path, image: Path, layout: SlotLayout, scratch: Scratch | None = None) -> None:
    """Lay the PEFT folder `adapter` out in `image`, which appears whole or not at all.

    Raises `ValueError` for tensors that have no place in the engine or too large a rank, `OSError`.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    tensors, head = {}, {}
    for key, tensor in map_tensors(adapter / "adapter_model.safetensors").items():
        if (part := part_of(key)) is not None:
            head[{"weight": WEIGHT, "bias": BIAS}[part[1]]] = tensor
            continue
        match = _KEY.match(key)
        if match is None:
            raise ValueError(f"{key} is no LoRA weight of a linear layer")
        name, index = layout.place_of(match["module"])
        rank = tensor.shape[match["side"] == "B"]
        if rank > layout.max_rank:
            raise ValueError(f"{match['module']} has rank {rank}; the slots hold {layout.max_rank} (see --max-rank)")
        if match["side"] == "B":
            factor = scaling(config, match["module"], rank)
            tensor = (tensor if factor == 1.0 else tensor.float() * factor).t()
        tensors[f"{name}.{index}.{match['side'].lower()}"] = tensor
    partial = image.with_suffix(".partial")
    try:
        write_tensors(partial, tensors, layout.dtype, scratch or Scratch(), exact=head)
        partial.replace(image)
    finally:
        partial.unlink(missing_ok=True)
