"""The numbers in an adapter's tensors: all finite, none absurd, and not all without effect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graft.adapters.errors import Reason
from graft.adapters.folder.manifest import TENSOR_FILE, Manifest
from graft.adapters.folder.tensor_numbers import EXPONENTS, inspect_tensor


@dataclass(frozen=True, kw_only=True)
class AdapterNumbers:
    """What the numbers show: `reasons` against them, and whether the adapter changes nothing."""

    reasons: tuple[Reason, ...]
    is_noop: bool


def inspect_numbers(folder: Path, manifest: Manifest) -> AdapterNumbers:
    """Look at every number through a read-only map, in pieces.

    An adapter is a no-op when in every pair lora_A or lora_B is zero throughout, or alpha is. Raises OSError.
    """
    data: NDArray[np.uint8] = np.memmap(Path(folder) / TENSOR_FILE, dtype=np.uint8, mode="r")
    reasons, zero_of_module = [], dict[str, bool]()
    for name, info in manifest.tensors.items():
        if info.dtype not in EXPONENTS:
            problem = f"is of dtype {info.dtype}"
            remedy = f"save the adapter as one of {', '.join(EXPONENTS)}"
            reasons.append(Reason(field=f"{TENSOR_FILE}:{name[:200]}", problem=problem, remedy=remedy))
            continue
        tensor = inspect_tensor(data, info)
        remedy = "training diverged or the file was damaged: export it again, or train with a lower learning rate"
        field = f"{TENSOR_FILE}:{name[:200]}"
        reasons += [Reason(field=field, problem=problem, remedy=remedy) for problem in tensor.problems()]
        module = name.replace(".lora_B.", ".lora_A.").replace(".lora_embedding_B", ".lora_embedding_A")
        zero_of_module[module] = zero_of_module.get(module, False) or tensor.is_zero
    is_noop = all(zero_of_module.values()) or (manifest.alpha == 0 and not manifest.config.get("alpha_pattern"))
    return AdapterNumbers(reasons=tuple(reasons), is_noop=is_noop)
