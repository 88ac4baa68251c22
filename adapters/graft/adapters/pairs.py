"""The pairs lora_A, lora_B of an adapter, laid beside the modules of a base.

y = W x + (alpha / r) B A x, with A of shape (r, in_features) and B of shape (out_features, r)  (LoRA, eq. 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graft.adapters.base import Base
from graft.adapters.errors import Reason
from graft.adapters.manifest import TENSOR_FILE, Manifest
from graft.adapters.tensor_header import TensorInfo

_OUTPUT_HEADS = ("lm_head", "embed_out")
_NAME = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\.lora_(?P<side>[AB])\.weight\Z")
_FLOATS = ("F16", "BF16", "F32", "F64")
_MAX_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The two sides of one module's update; None where the file lacks it."""

    a: TensorInfo | None = None
    b: TensorInfo | None = None


def reasons(manifest: Manifest, base: Base) -> list[Reason]:
    """Everything that keeps the tensors from being a LoRA of `base`; at most 20 of one kind are spelled out."""
    pairs, strange = _pairs(manifest.tensors)
    known = {module: pair for module, pair in pairs.items() if module in base.modules}
    unknown = [_unknown(module, base) for module in pairs if module not in known]
    found = _capped(strange) + _capped(unknown)
    if not known:
        problem = f"no tensor belongs to a linear module of the base {base.name}: the base would answer instead"
        remedy = f"this base has modules such as {', '.join(sorted(base.modules)[:3])}"
        found.append(Reason(field="target_modules", problem=problem, remedy=remedy))
    wrong = [reason for module, pair in known.items() for reason in _pair_reasons(module, pair, manifest, base)]
    return found + _capped(wrong)


def expected_rank(manifest: Manifest, module: str) -> int:
    """The module's rank: the first entry of rank_pattern that ends its path, as in PEFT, else r."""
    for key, rank in manifest.rank_pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return rank
    return manifest.rank


def _pairs(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, _Pair], list[Reason]]:
    sides: dict[str, dict[str, TensorInfo]] = {}
    strange = []
    for name, info in tensors.items():
        match = _NAME.match(name)
        if match is None:
            remedy = "only base_model.model.<module>.lora_A.weight and lora_B.weight are served"
            problem = "is not a LoRA matrix of a linear module"
            strange.append(Reason(field=f"{TENSOR_FILE}:{name[:200]}", problem=problem, remedy=remedy))
            continue
        sides.setdefault(match["module"], {})[match["side"].lower()] = info
    return {module: _Pair(**found) for module, found in sides.items()}, strange


def _unknown(module: str, base: Base) -> Reason:
    remedy = "it was trained on another architecture, or on a module that cannot be adapted"
    problem = f"the base {base.name} has no linear module of this name"
    return Reason(field=f"{TENSOR_FILE}:{module[:200]}", problem=problem, remedy=remedy)


def _pair_reasons(module: str, pair: _Pair, manifest: Manifest, base: Base) -> Iterator[Reason]:
    if module.rpartition(".")[2] in _OUTPUT_HEADS:
        # vLLM computes a prompt's log-probabilities without knowing which adapter the prompt belongs to.
        problem, remedy = "an adapted output head would be left out when prompts are scored", "train without it"
        yield Reason(field=f"{TENSOR_FILE}:{module}", problem=problem, remedy=remedy)
    out_features, in_features = base.modules[module]
    rank = expected_rank(manifest, module)
    for side, info, shape in (("A", pair.a, (rank, in_features)), ("B", pair.b, (out_features, rank))):
        field = f"{TENSOR_FILE}:{module}.lora_{side}"
        if info is None:
            yield Reason(field=field, problem="is missing; A and B come in pairs", remedy="export the adapter again")
        elif info.shape != shape:
            problem = f"has shape {list(info.shape)}; rank {rank} on this base needs {list(shape)}"
            yield Reason(field=field, problem=problem, remedy="the rank or the base differs from the training's")
        elif info.dtype not in _FLOATS:
            yield Reason(field=field, problem=f"is of dtype {info.dtype}, not one of {', '.join(_FLOATS)}")


def _capped(found: list[Reason]) -> list[Reason]:
    if len(found) <= _MAX_SHOWN:
        return found
    rest = len(found) - _MAX_SHOWN
    return [*found[:_MAX_SHOWN], Reason(field=TENSOR_FILE, problem=f"and {rest} more like these")]
