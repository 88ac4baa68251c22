"""Products other than LoRA's, made of small matrices: LoHa, the Hadamard product of two low-rank ones (Hyeon-Woo et al.
2022, arXiv:2108.06098, eq. 3), and LoKr, a Kronecker product (Yeh et al. 2024, arXiv:2309.14859, section 3.2).
"""

from __future__ import annotations

from peft import LoHaConfig, LoKrConfig
from peft.tuners.lokr.layer import factorization

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.lora import LAYERS, highest_rank
from graft.training.adapt.methods.packed import inject_by_shape
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.settings import MAX_RANK, AdaptSettings
from graft.training.adapt.targets import Targets

_USES = LAYERS | {"r", "lora_alpha", "rank_pattern", "alpha_pattern"}


def loha(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> LoHaConfig:
        targets = Targets.of(base, settings)
        return LoHaConfig(r=settings.r, alpha=settings.lora_alpha, **targets.options(), **targets.patterns())

    return PeftMethod(
        name="loha",
        uses=_USES,
        configuration=configuration,
        way=lambda base: exact_up_to(highest_rank(base, settings) ** 2),
        add=inject_by_shape,
    )


def lokr(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> LoKrConfig:
        targets = Targets.of(base, settings)
        return LoKrConfig(
            r=settings.r,
            alpha=settings.lora_alpha,
            decompose_factor=settings.decompose_factor,
            **targets.options(),
            **targets.patterns(),
        )

    def way(base: Adaptable) -> Way:
        targets = Targets.of(base, settings)
        return exact_up_to(
            max(
                _kronecker_rank(base.layers[path], targets.rank_of(path, settings.r), settings)
                for path in targets.paths
            )
        )

    return PeftMethod(
        name="lokr", uses=_USES | {"decompose_factor"}, configuration=configuration, way=way, add=inject_by_shape
    )


def exact_up_to(rank: int) -> Way:
    """As a LoRA adapter, where a server takes one of such a rank."""
    if rank <= MAX_RANK:
        return Way(route=Route.EXACT, rank=rank)
    return Way(route=Route.MERGE, why=f"its exact LoRA adapter has rank {rank}, and a server takes {MAX_RANK} at most")


def _kronecker_rank(shape: tuple[int, int], rank: int, settings: AdaptSettings) -> int:
    """Of the product: that of its factors, multiplied."""
    (out_1, out_2), (in_1, in_2) = (factorization(size, settings.decompose_factor) for size in shape)
    found: int = min(out_1, in_1) * min(rank, out_2, in_2)
    return found
