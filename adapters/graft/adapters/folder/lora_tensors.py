"""An adapter's LoRA matrices, compared with the linear modules of a base.

y = W x + (alpha / r) B A x, with A of shape (r, in_features) and B of shape (out_features, r)  (LoRA, eq. 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graft.adapters.errors import Reason
from graft.adapters.folder import head, peft_patterns
from graft.adapters.folder.adaptable import is_expert, is_head
from graft.adapters.folder.manifest import CONFIG_FILE, TENSOR_FILE, Manifest
from graft.adapters.folder.tensor_header import TensorInfo

_NAME = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\.lora_(?P<side>[AB])\.weight\Z")
# Whole matrices with a row for each token, as a trainer saves them that added tokens, and the low-rank updates of such.
_PER_TOKEN = re.compile(
    r"base_model\.model\.(?:.*\.)?(?P<table>embed_tokens|embed_in|wte|word_embeddings|shared|lm_head|embed_out|output)"
    r"(?:\.base_layer|\.original_module|\.modules_to_save(?:\.\w+)?)?"
    r"\.(?P<kind>weight|lora_embedding_A(?:\.weight)?)\Z"
)
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector(\.weight)?\Z")
_MAX_SHOWN = 20


class Base(Protocol):
    """What of a base an adapter's tensors are compared with: its linear modules as (out_features, in_features)."""

    @property
    def name(self) -> str: ...
    @property
    def modules(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def vocab_size(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two sides of one module's update; None where the file lacks it."""

    a: TensorInfo | None = None
    b: TensorInfo | None = None


def mismatches(manifest: Manifest, base: Base) -> list[Reason]:
    """Everything that keeps the tensors from being a LoRA of `base`; at most 20 of one kind are spelled out."""
    matrices = {name: info for name, info in manifest.tensors.items() if head.part_of(name) is None}
    if manifest.config.get("use_dora"):  # which is refused as such: of its magnitudes there is nothing to add
        matrices = {name: info for name, info in matrices.items() if not _MAGNITUDE.search(name)}
    pairs, strange = pairs_of(matrices)
    experts = sorted(filter(is_expert, pairs))
    known = {module: pair for module, pair in pairs.items() if module in base.modules and not is_expert(module)}
    unknown = [_unknown(module, base) for module in pairs if module not in base.modules and not is_expert(module)]
    found = [_of_experts(experts)] if experts else []
    if not known and not experts:
        problem = f"no tensor belongs to a linear module of the base {base.name}: the base would answer instead"
        remedy = f"this base has modules such as {', '.join(sorted(base.modules)[:3])}"
        found.append(Reason(field="target_modules", problem=problem, remedy=remedy))
    found += _capped(strange) + _capped(unknown)
    try:
        resolved = peft_patterns.resolve(manifest.config, known)
    except peft_patterns.PatternsTooSlow as error:
        problem = f"its patterns (rank_pattern, alpha_pattern, target_modules, …) {error}"
        return [*found, Reason(field=CONFIG_FILE, problem=problem, remedy="name the modules instead")]
    wrong = [
        reason
        for module, pair in known.items()
        for reason in _pair_reasons(module, pair, resolved.ranks.get(module, manifest.rank), base)
    ]
    left_out = [_left_out(module) for module in known if module not in resolved.targeted and not is_head(module)]
    return found + _capped(left_out) + _capped(wrong)


def vocabulary_mismatches(manifest: Manifest, base: Base) -> list[Reason]:
    """The tensors that hold a row for each token, and whether they speak of other tokens than the base does."""
    found = []
    for name, info in manifest.tensors.items():
        match = _PER_TOKEN.match(name)
        if match is None:
            continue
        problem = f"is not a LoRA matrix of a linear module: {match['table']} is shared by all adapters"
        remedy = "train without new tokens and without modules_to_save, or merge it into a base of its own"
        num_rows = info.shape[1 if "embedding" in match["kind"] else 0] if len(info.shape) == 2 else None
        if num_rows not in (None, base.vocab_size):
            problem = f"the adapter's vocabulary is {num_rows}, the base's {base.vocab_size}; it {problem}"
            remedy = "train without adding tokens, or resize the base as the trainer did, save it and serve that"
        found.append(Reason(field=f"{TENSOR_FILE}:{name[:200]}", problem=problem, remedy=remedy))
    return _capped(found)


def scaling(config: Mapping[str, object], module: str, rank: int) -> float:
    """alpha / r, or alpha / √r for rank-stabilised LoRA (arXiv:2312.03732), of an accepted adapter; `alpha_pattern` is
    matched as peft does.
    """
    patterns = peft_patterns.mapping_of(config, "alpha_pattern")
    keys = ((re.match(peft_patterns.of_key(key), module), alpha) for key, alpha in patterns.items())
    alpha = next((alpha for match, alpha in keys if match), config["lora_alpha"])
    return float(str(alpha)) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def pairs_of(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, Pair], list[Reason]]:
    """By module, and what of the tensors is no side of a pair."""
    sides: dict[str, dict[str, TensorInfo]] = {}
    strange = []
    for name, info in tensors.items():
        match = _NAME.match(name)
        if match is None and _PER_TOKEN.match(name):
            continue  # said by vocabulary_mismatches
        if match is None:
            remedy = "only base_model.model.<module>.lora_A.weight and lora_B.weight are served"
            problem = "is not a LoRA matrix of a linear module"
            strange.append(Reason(field=f"{TENSOR_FILE}:{name[:200]}", problem=problem, remedy=remedy))
            continue
        sides.setdefault(match["module"], {})[match["side"].lower()] = info
    return {module: Pair(**found) for module, found in sides.items()}, strange


def _unknown(module: str, base: Base) -> Reason:
    remedy = "it was trained on another architecture, or on a module that cannot be adapted"
    problem = f"the base {base.name} has no linear module of this name"
    return Reason(field=f"{TENSOR_FILE}:{module[:200]}", problem=problem, remedy=remedy)


def _of_experts(modules: Sequence[str]) -> Reason:
    others = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    problem = f"{modules[0]}{others}: adapters of a mixture's experts are not served, whose slots would be the largest"
    remedy = "train with exclude_modules=r'.*\\.experts\\b.*' (attention, routers and shared experts stay), or merge it"
    return Reason(field=TENSOR_FILE, problem=problem, remedy=remedy)


def _left_out(module: str) -> Reason:
    problem = f"target_modules, exclude_modules and layers_to_transform of {CONFIG_FILE} leave it out, as PEFT would"
    remedy = "name the module there, or save the adapter without it"
    return Reason(field=f"{TENSOR_FILE}:{module[:200]}", problem=problem, remedy=remedy)


def _pair_reasons(module: str, pair: Pair, rank: int, base: Base) -> Iterator[Reason]:
    if is_head(module):
        # vLLM computes a prompt's log-probabilities without knowing which adapter the prompt belongs to.
        problem, remedy = "an adapted output head would be left out when prompts are scored", "train without it"
        yield Reason(field=f"{TENSOR_FILE}:{module}", problem=problem, remedy=remedy)
    out_features, in_features = base.modules[module]
    for side, info, shape in (("A", pair.a, (rank, in_features)), ("B", pair.b, (out_features, rank))):
        field = f"{TENSOR_FILE}:{module}.lora_{side}"
        if info is None:
            yield Reason(field=field, problem="is missing; A and B come in pairs", remedy="export the adapter again")
        elif info.shape != shape:
            problem = f"has shape {list(info.shape)}; rank {rank} on this base needs {list(shape)}"
            yield Reason(field=field, problem=problem, remedy="the rank or the base differs from the training's")


def _capped(found: list[Reason]) -> list[Reason]:
    if len(found) <= _MAX_SHOWN:
        return found
    rest = len(found) - _MAX_SHOWN
    return [*found[:_MAX_SHOWN], Reason(field=TENSOR_FILE, problem=f"and {rest} more like these")]
