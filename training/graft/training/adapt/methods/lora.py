"""LoRA (Hu et al. 2022, arXiv:2106.09685), a product of two narrow matrices beside each layer, and what only scales or
teaches it in another way: rsLoRA (Kalajdzievski 2023, arXiv:2312.03732), LoRA+ (Hayou et al. 2024, arXiv:2402.12354)
and DoRA (Liu et al. 2024, arXiv:2402.09353).
"""

from __future__ import annotations

from dataclasses import replace

from peft import LoraConfig
from torch import nn

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Learning, Method, Route, Way
from graft.training.adapt.methods.continued import continued
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets

LAYERS = frozenset(("target_modules", "layers_to_transform"))
RANKS = LAYERS | {"r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern"}


def lora(settings: AdaptSettings) -> Method:
    """Or what goes on from an adapter."""
    if settings.start is not None:
        return continued(settings, settings.start)
    return _plain(settings, "lora", frozenset(("use_rslora",)))


def rslora(settings: AdaptSettings) -> Method:
    """Scaled by alpha/√r in place of alpha/r."""
    return _plain(replace(settings, use_rslora=True), "rslora", frozenset(("use_rslora",)))


def lora_plus(settings: AdaptSettings) -> Method:
    """B learns faster than A."""

    def rate_of(name: str) -> float:
        return settings.loraplus_lr_ratio if ".lora_B." in name else 1.0

    def learning(model: nn.Module, num_steps: int) -> Learning:
        return Learning(rate_of=rate_of)

    made = _plain(settings, "lora+", frozenset(("use_rslora", "loraplus_lr_ratio")))
    return replace(made, learning=learning)


def dora(settings: AdaptSettings) -> Method:
    """The length of each row of the weights is learned by itself, beside their directions."""
    made = _plain(settings, "dora", frozenset(("use_rslora",)), use_dora=True)
    return replace(made, shards=False, way=lambda base: Way(route=Route.MERGE))


def lora_config(base: Adaptable, settings: AdaptSettings, *, use_dora: bool = False) -> LoraConfig:
    """Raises ``ConfigurationError``."""
    targets = Targets.of(base, settings)
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.use_rslora,
        use_dora=use_dora,
        **targets.options(),
        **targets.patterns(),
    )


def highest_rank(base: Adaptable, settings: AdaptSettings) -> int:
    """Of the layers that learn."""
    targets = Targets.of(base, settings)
    return max(targets.rank_of(path, settings.r) for path in targets.paths)


def _plain(settings: AdaptSettings, name: str, uses: frozenset[str], *, use_dora: bool = False) -> PeftMethod:
    return PeftMethod(
        name=name,
        uses=RANKS | uses,
        configuration=lambda base: lora_config(base, settings, use_dora=use_dora),
        way=lambda base: Way(route=Route.AS_IS, rank=highest_rank(base, settings)),
        shards=True,
    )
