"""Every method, by its name."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping

from graft.training.adapt.method import Method
from graft.training.adapt.methods.adalora import adalora
from graft.training.adapt.methods.bottleneck import houlsby, pfeiffer
from graft.training.adapt.methods.lora import dora, lora, lora_plus, rslora
from graft.training.adapt.methods.own_weights import bitfit, full
from graft.training.adapt.methods.principal import olora, pissa
from graft.training.adapt.methods.products import loha, lokr
from graft.training.adapt.methods.prompts import multitask_prompt_tuning, p_tuning, prefix_tuning, prompt_tuning
from graft.training.adapt.methods.rotations import oft
from graft.training.adapt.methods.tokens import trainable_tokens
from graft.training.adapt.methods.vectors import ia3, vera
from graft.training.adapt.settings import OF_METHODS, AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.parallel.mesh import Mesh

_log = logging.getLogger(__name__)

MAKERS: Mapping[str, Callable[[AdaptSettings], Method]] = {
    "lora": lora,
    "rslora": rslora,
    "dora": dora,
    "lora+": lora_plus,
    "pissa": pissa,
    "olora": olora,
    "adalora": adalora,
    "loha": loha,
    "lokr": lokr,
    "vera": vera,
    "ia3": ia3,
    "oft": oft,
    "trainable_tokens": trainable_tokens,
    "prefix_tuning": prefix_tuning,
    "prompt_tuning": prompt_tuning,
    "p_tuning": p_tuning,
    "multitask_prompt_tuning": multitask_prompt_tuning,
    "houlsby": houlsby,
    "pfeiffer": pfeiffer,
    "bitfit": bitfit,
    "full": full,
}


def method_of(settings: AdaptSettings) -> Method:
    """What the setting ``method`` names. Raises ``ConfigurationError`` where it cannot go on from an adapter."""
    if settings.start is not None and settings.method != "lora":
        raise ConfigurationError(
            f"setting 'start' names a LoRA adapter to go on from, and the method is {settings.method}: take lora, or "
            "leave start out."
        )
    return MAKERS[settings.method](settings)


def warn_of_unused(method: Method, settings: AdaptSettings) -> None:
    """Of settings that were given and have no effect with a method."""
    given = [
        field.name
        for field in dataclasses.fields(settings)
        if field.name in OF_METHODS and getattr(settings, field.name) != field.default
    ]
    if unused := [name for name in given if name not in method.uses]:
        _log.warning("method %s does not look at %s: without effect", method.name, ", ".join(unused))


def check_beside_rows(method: Method, mesh: Mesh, *, packing: bool) -> None:
    """Raises ``ConfigurationError`` where a method does not go with how rows and weights are laid out."""
    reasons = []
    if packing and not method.packs:
        reasons.append("vectors stand before each row, so that each needs a line of its own: leave packing out")
    if mesh.shards_weights and not method.shards:
        remedy = "dp_replicate, or zero_stage 1" if method.shards_optimizer else "dp_replicate"
        reasons.append(f"it needs the base's weights whole in each process: take {remedy}")
    elif mesh.dp_shard > 1 and not method.shards_optimizer:
        reasons.append("it needs every gradient in each process: take dp_replicate")
    if reasons:
        raise ConfigurationError(f"method {method.name} cannot learn so: {'; '.join(reasons)}.")
