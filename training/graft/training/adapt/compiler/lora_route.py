"""The way to a LoRA adapter: exactly, where every layer has a closed form, or as near as a rank allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from peft import PeftModel

from graft.adapters.base.base import Base
from graft.training.adapt.compiler.closed_forms import ADAPTER
from graft.training.adapt.compiler.factors import Factors, nearest
from graft.training.adapt.compiler.loaded import Loaded
from graft.training.adapt.compiler.lora_folder import lora_tensors
from graft.training.adapt.compiler.peft_model import PREFIX, layers_of
from graft.training.adapt.compiler.report import LayerReport
from graft.training.adapt.settings import MAX_RANK
from graft.training.errors import ConfigurationError, NotTheSame

_SAME = 1e-5
"""How far peft's float32 product of the written matrices may be from ours, relatively."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """The updates of all layers as they are written."""

    factors: Mapping[str, Factors]
    """In the numbers that the files hold."""
    layers: tuple[LayerReport, ...]

    @classmethod
    def of(cls, loaded: Loaded, factors: Mapping[str, Factors], *, rank: int | None = None) -> Updates:
        """Measured against the updates that peft merges, by which the loaded model is spent; a layer without factors
        gets the nearest ones of a ``rank``.

        Raises ``ConfigurationError`` where nothing is changed.
        """
        kept, reports = {}, []
        for path, layer in loaded.layers.items():
            trained_OI = loaded.measured(path, layer)
            error = size = float(trained_OI.norm())
            one = factors.get(path) or (nearest(trained_OI, rank) if rank and size else None)
            if one is not None:
                kept[path] = one = _as_written(path, one)
                error = float((trained_OI - one.product()).norm())
            num_parameters = one.num_parameters if one else 0
            rank_here = one.rank if one else 0
            reports.append(
                LayerReport(path=path, rank=rank_here, num_parameters=num_parameters, error=error, size=size)
            )
        if not any(one.size for one in reports):
            raise ConfigurationError("all its updates are zero, so it says what the base says: train it first.")
        return cls(factors=kept, layers=tuple(reports))

    def check(self, model: PeftModel) -> None:
        """Whether peft makes the same of the written files. Raises ``NotTheSame``."""
        found = dict(layers_of(model))
        if found.keys() != self.factors.keys():
            other = sorted(found.keys() ^ self.factors.keys())[0]
            raise NotTheSame(f"the written files adapt other layers than the original: {other}.")
        for path, one in self.factors.items():
            meant_OI = one.product()
            if (found[path].get_delta_weight(ADAPTER).double() - meant_OI).norm() > _SAME * meant_OI.norm():
                raise NotTheSame(f"peft makes another update of what was written for {path}.")


def exact(loaded: Loaded, base: Base, layers: Collection[str]) -> tuple[dict[str, Factors], list[str]]:
    """The closed forms of all layers, and all reasons why there is no exact LoRA adapter; ``layers`` are those that a
    server takes adapters on.
    """
    found, reasons = {}, obstacles(loaded, base, layers)
    without: list[str] = []
    for path, layer in loaded.layers.items():
        if path not in layers:
            continue  # said as an obstacle
        factors = loaded.exact(path, layer)
        if factors is None:
            without.append(path)
        elif factors.rank > MAX_RANK:
            reasons.append(f"{path} needs rank {factors.rank}, and the largest of the engine is {MAX_RANK}")
        elif factors.rank:
            found[path] = factors
    if without:
        reasons.append(f"what {loaded.method} does to {without[0]} is no product of two thin matrices")
    return found, reasons


def obstacles(loaded: Loaded, base: Base, layers: Collection[str]) -> list[str]:
    """What of the adapter no LoRA adapter could hold that a server takes."""
    whole = loaded.whole_modules()
    reasons = [f"{path} was trained as a whole or row by row" for path in whole]
    bias = getattr(loaded.model.peft_config[ADAPTER], "bias", "none")
    if bias != "none":
        reasons.append(f"biases were trained (bias={bias!r})")
    inside = tuple(f"{path}." for path in whole)
    outside = [path for path in loaded.layers if path not in layers and not path.startswith(inside)]
    if outside:
        others = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        reasons.append(f"no server takes adapters on {outside[0]}{others} of {base.name}")
    return reasons


def shortened(loaded: Loaded, rank: int) -> dict[str, Factors]:
    """The nearest update of a rank to each that has a closed form."""
    found = {path: loaded.exact(path, layer) for path, layer in loaded.layers.items()}
    return {path: one.nearest(rank) for path, one in found.items() if one is not None and one.rank}


def _as_written(path: str, one: Factors) -> Factors:
    tensors = lora_tensors({path: one})
    return Factors.of(tensors[f"{PREFIX}{path}.lora_A.weight"], tensors[f"{PREFIX}{path}.lora_B.weight"])
