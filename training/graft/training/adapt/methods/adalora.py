"""AdaLoRA (Zhang et al. 2023, arXiv:2303.10512): triplets like singular vectors and values, of which the least
important are taken away as the training goes, until what is left is as large as was asked for.

peft scores and chooses (``RankAllocator``); here that follows the loop's steps by their float32 masters, and is kept in
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from torch import Tensor, nn

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Learning, Method, Route, Way
from graft.training.adapt.methods.lora import LAYERS
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets
from graft.training.errors import ConfigurationError
from graft.training.objective.objective import Objective

_OWN = ("init_r", "target_r", "tinit", "tfinal", "deltaT", "orth_reg_weight")
_PREFIX = "base_model.model."
_PENALTY = "orthogonality"


def adalora(settings: AdaptSettings) -> Method:
    options = {name: getattr(settings, name) for name in _OWN}

    def configuration(base: Adaptable) -> AdaLoraConfig:
        if settings.target_r >= settings.init_r:
            raise ConfigurationError(
                f"setting 'target_r' has the value {settings.target_r}, and adalora takes ranks away from "
                f"{settings.init_r} (init_r): lower target_r, or raise init_r."
            )
        return AdaLoraConfig(
            **options,
            total_step=settings.tinit + settings.tfinal + 1,  # until it is known
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            **Targets.of(base, settings).options(),
        )

    def fixed(num_steps: int) -> Mapping[str, str]:
        if settings.tinit + settings.tfinal >= num_steps:
            raise ConfigurationError(
                f"adalora takes ranks away between step {settings.tinit} (tinit) and the last {settings.tfinal} "
                f"(tfinal), and the training has {num_steps} steps: lower them, or train for longer."
            )
        return {"steps": str(num_steps)}

    def learning(model: nn.Module, num_steps: int) -> Learning:
        return Learning(
            objective=lambda objective: Orthogonal.beside(objective, settings.orth_reg_weight),
            companion=Allocation(model, num_steps),
        )

    return PeftMethod(
        name="adalora",
        uses=LAYERS | {"lora_alpha", "lora_dropout", *_OWN},
        configuration=configuration,
        way=lambda base: Way(route=Route.EXACT, rank=settings.init_r),
        learning=learning,
        fixed=fixed,
        shards_optimizer=False,  # every process scores by the gradients of all data
    )


@dataclass(frozen=True, kw_only=True)
class Orthogonal:
    """An objective, and how far the vectors of a model are from orthogonal (eq. 4 of the paper; as in peft the norm is
    not squared, and its mean over the matrices is taken).
    """

    objective: Objective[Any]
    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def beside(cls, objective: Objective[Any], weight: float) -> Orthogonal:
        return cls(objective=objective, weights={**objective.weights, _PENALTY: weight})

    def counts(self, batch: Any) -> Mapping[str, int]:
        return {**self.objective.counts(batch), _PENALTY: 1}

    def sums(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {**self.objective.sums(model, batch), _PENALTY: penalty(model)}


def penalty(model: nn.Module) -> Tensor:
    """Mean of ‖A·Aᵀ − I‖ and ‖Bᵀ·B − I‖ over all layers, in float32."""
    found = []
    for name, one in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            wide = one.float() if ".lora_A." in name else one.float().T
            found.append(torch.linalg.norm(wide @ wide.T - torch.eye(len(wide), device=wide.device)))
    return torch.stack(found).mean()


class Allocation:
    """Which ranks are left: see ``Companion``."""

    def __init__(self, model: nn.Module, num_steps: int) -> None:
        assert isinstance(model, PeftModel)
        self._config = model.peft_config["default"]
        self._config.total_step = num_steps
        self._allocator = model.base_model.rankallocator
        weights = {name.removeprefix(_PREFIX): one for name, one in model.named_parameters() if one.requires_grad}
        for scores in (self._allocator.ipt, self._allocator.exp_avg_ipt, self._allocator.exp_avg_unc):
            scores.update({name: torch.zeros_like(one, dtype=torch.float32) for name, one in weights.items()})
        self._left = {
            name: torch.ones(len(one), dtype=torch.bool) for name, one in weights.items() if ".lora_E." in name
        }

    def tensors(self) -> Mapping[str, Tensor]:
        allocator = self._allocator
        return {
            **{f"importance/{name}": one for name, one in allocator.exp_avg_ipt.items()},
            **{f"uncertainty/{name}": one for name, one in allocator.exp_avg_unc.items()},
            **{f"left/{name}": one for name, one in self._left.items()},
        }

    def taken_over(self) -> None:
        if not all(bool(one.all()) for one in self._left.values()):
            self._config.rank_pattern = {name: one.tolist() for name, one in self._left.items()}

    @torch.no_grad()
    def follow(self, masters: Mapping[str, nn.Parameter], number: int) -> None:
        seen, last = _Masters(masters), self._config.total_step - self._config.tfinal
        if number > last:
            self._allocator.mask_using_rank_pattern(seen, self._config.rank_pattern)
            return
        _, pattern = self._allocator.update_and_allocate(seen, number, force_mask=number == last)
        if pattern:
            self._config.rank_pattern = pattern
            for name, left in pattern.items():
                self._left[name].copy_(torch.tensor(left))


@dataclass(frozen=True)
class _Masters:
    """The masters, as a model that peft asks for its parameters."""

    masters: Mapping[str, nn.Parameter]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name.removeprefix(_PREFIX), one) for name, one in self.masters.items())
