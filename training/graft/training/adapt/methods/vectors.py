"""Vectors alone: VeRA's, which scale what random matrices that all layers share compute (Kopiczko et al. 2024,
arXiv:2310.11454, eq. 2), and (IA)³'s, which scale what layers compute (Liu et al. 2022, arXiv:2205.05638, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping

from peft import IA3Config, PeftModel, VeraConfig
from peft.tuners.ia3 import IA3Layer
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from torch import Tensor

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.lora import LAYERS
from graft.training.adapt.methods.through_peft import PeftMethod, packed
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets
from graft.training.errors import ConfigurationError


def vera(settings: AdaptSettings) -> Method:
    """What is random is written into the adapter, so that no other library has to draw the same."""

    def configuration(base: Adaptable) -> VeraConfig:
        return VeraConfig(
            r=settings.r,
            projection_prng_key=settings.seed,
            save_projection=True,
            vera_dropout=settings.lora_dropout,
            **Targets.of(base, settings).options(),
        )

    return PeftMethod(
        name="vera",
        uses=LAYERS | {"r", "lora_dropout"},
        configuration=configuration,
        way=lambda base: Way(route=Route.EXACT, rank=settings.r),
        pack=_with_projections,
    )


def _with_projections(model: PeftModel, whole: Mapping[str, Tensor]) -> dict[str, bytes]:
    shared = {f"base_model.vera_{one}.default": getattr(model.base_model, f"vera_{one}")["default"] for one in "AB"}
    return packed(model, {**whole, **shared})


def ia3(settings: AdaptSettings) -> Method:
    """By default on the layers that peft knows of a family: keys, values, and what the second feed-forward layer
    reads.
    """

    def configuration(base: Adaptable) -> IA3Config:
        known = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(base.model_type)
        if settings.target_modules is None and known is None:
            raise ConfigurationError(
                f"for a {base.model_type} ia3 has no layers of its own: name them in target_modules, and those of them "
                "whose inputs are scaled in feedforward_modules."
            )
        targets = Targets.of(base, settings, default=None if known is None else tuple(known))
        usual = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(base.model_type, [])
        wanted = settings.feedforward_modules
        feedforward = [name for name in usual if name in targets.names] if wanted is None else list(wanted)
        if strangers := [name for name in feedforward if name not in targets.names]:
            raise ConfigurationError(
                f"setting 'feedforward_modules' names {', '.join(strangers)}, which target_modules does not: it names "
                f"{', '.join(targets.names)}."
            )
        return IA3Config(target_modules=list(targets.names), feedforward_modules=feedforward)

    return PeftMethod(
        name="ia3",
        uses=frozenset(("target_modules", "feedforward_modules")),
        configuration=configuration,
        way=lambda base: Way(route=Route.MERGE),
        begin=keep_types,
    )


def keep_types(model: PeftModel) -> None:
    """Over quantized layers peft would hand on float32."""
    for one in model.modules():
        if isinstance(one, IA3Layer):
            one.register_forward_hook(lambda layer, args, output: output.to(args[0].dtype))
