"""Versions added up, exactly: w₁ s₁ B₁ A₁ + w₂ s₂ B₂ A₂ = [w₁ s₁ B₁, w₂ s₂ B₂] [A₁; A₂], module by module.

A module's rank is the sum of the ranks that the parts have there, so nothing is lost but float32's rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.adapters.adapter import AdapterVersion
from graft.adapters.errors import IncompatibleAdapter, Reason
from graft.adapters.folder.lora_tensors import Base, Pair, pairs_of, scaling
from graft.adapters.folder.manifest import CONFIG_FILE, TEMPLATE_FILE, TENSOR_FILE, Manifest
from graft.adapters.folder.plain_lora import plain_config
from graft.adapters.folder.tensor_header import TensorInfo

_PLAIN = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True, kw_only=True)
class Term:
    """A version, its folder, and what its updates are multiplied by."""

    version: AdapterVersion
    folder: Path
    manifest: Manifest
    weight: float

    @property
    def name(self) -> str:
        """As its users call it."""
        return f"{self.version.adapter}@{self.version.number}"


def check_terms(terms: Sequence[Term]) -> None:
    """Raises IncompatibleAdapter with all that keeps the versions from being added up."""
    first, *others = terms
    reasons = []
    for one in terms:
        method = one.manifest.config.get("peft_type")
        if method != "LORA":
            reasons.append(Reason(field=one.name, problem=f"is {method!r:.80}: only LoRA adapters add up"))
        if one.manifest.num_labels:
            problem = f"brings a head of {one.manifest.num_labels} outputs: heads do not add up"
            reasons.append(Reason(field=one.name, problem=problem, remedy="train one head for all of it"))
    for one in others:
        if parts := one.version.base.differences(first.version.base):
            problem = f"was made for another base than {first.name}: {', '.join(parts).replace('_', ' ')} differ"
            reasons.append(Reason(field=one.name, problem=problem, remedy="add up versions of one base"))
        if one.version.form != first.version.form:
            problem = f"was trained on the base as {one.version.form}, {first.name} on it as {first.version.form}"
            reasons.append(Reason(field=one.name, problem=problem, remedy="add up versions of one form"))
        if _template(one) != _template(first):
            problem = f"has another chat template than {first.name}"
            reasons.append(Reason(field=one.name, problem=problem, remedy="add up versions that are asked alike"))
    if reasons:
        raise IncompatibleAdapter("the versions do not add up", reasons)


def added(terms: Sequence[Term], base: Base) -> Iterator[tuple[str, bytes]]:
    """The names and bytes of the sum's files, each in pieces; `graft.json` is its maker's. Raises OSError."""
    parts = [_Part.of(term) for term in terms]
    modules = sorted({module for part in parts for module in part.pairs})
    ranks = {module: sum(part.rank(module) for part in parts) for module in modules}
    yield CONFIG_FILE, plain_config(ranks, layers=base.modules, base=base.name, revision=None)
    yield TENSOR_FILE, _header(ranks, base)
    for module in modules:
        here = [part for part in parts if module in part.pairs]
        yield TENSOR_FILE, np.concatenate([part.a(module) for part in here]).tobytes()
        yield TENSOR_FILE, np.concatenate([part.b(module) for part in here], axis=1).tobytes()
    if _template(terms[0]) is not None:
        yield TEMPLATE_FILE, (terms[0].folder / TEMPLATE_FILE).read_bytes()


@dataclass(frozen=True, kw_only=True)
class _Part:
    term: Term
    pairs: dict[str, Pair]
    data: NDArray[np.uint8]

    @classmethod
    def of(cls, term: Term) -> _Part:
        pairs, _ = pairs_of(term.manifest.tensors)
        return cls(term=term, pairs=pairs, data=np.memmap(term.folder / TENSOR_FILE, dtype=np.uint8, mode="r"))

    def rank(self, module: str) -> int:
        a = self.pairs[module].a if module in self.pairs else None
        return a.shape[0] if a is not None else 0

    def a(self, module: str) -> NDArray[np.float32]:
        return self._matrix(self.pairs[module].a).astype("<f4")

    def b(self, module: str) -> NDArray[np.float32]:
        scale = self.term.weight * scaling(self.term.manifest.config, module, self.rank(module))
        return (self._matrix(self.pairs[module].b) * scale).astype("<f4")

    def _matrix(self, info: TensorInfo | None) -> NDArray[np.float64]:
        assert info is not None  # a version was checked when it came in
        raw = np.ascontiguousarray(self.data[info.start : info.end])
        if info.dtype == "BF16":  # the upper half of a float32's bits
            values: NDArray[Any] = (raw.view("<u2").astype("<u4") << 16).view("<f4")
        else:
            values = raw.view(_PLAIN[info.dtype])
        return values.reshape(info.shape).astype(np.float64)


def _header(ranks: dict[str, int], base: Base) -> bytes:
    """Of a file in safetensors format that holds A and B of each module in float32."""
    described, end = dict[str, object](), 0
    for module, rank in ranks.items():
        num_outputs, num_inputs = base.modules[module]
        for side, shape in (("A", [rank, num_inputs]), ("B", [num_outputs, rank])):
            begin, end = end, end + 4 * shape[0] * shape[1]
            name = f"base_model.model.{module}.lora_{side}.weight"
            described[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **described}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _template(term: Term) -> str | None:
    return next((file.sha256 for file in term.version.files if file.name == TEMPLATE_FILE), None)
