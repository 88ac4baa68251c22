"""What peft's layers compute, as a product of two matrices without loss: one short function for each kind of layer.

The formulas are those of the layers' own ``get_delta_weight`` in peft 0.21, by which tests measure them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.adalora import SVDLinear
from peft.tuners.loha import Linear as LohaLinear
from peft.tuners.lokr import Linear as LokrLinear
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora.variants import MiCALinearVariant, VeloraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vblora import Linear as VbLoraLinear
from peft.tuners.vera import Linear as VeraLinear
from torch import nn

from graft.training.adapt.compiler.factors import Factors, elementwise, kronecker

ADAPTER = "default"
"""The name under which peft holds the one adapter."""
_TRAINED_OTHERWISE = (MiCALinearVariant, VeloraLinearVariant)
"""What makes a training of LoRA another one, and not what it computes."""


@torch.no_grad()
def closed_form(layer: BaseTunerLayer) -> Factors | None:
    """The exact update of a layer of peft's; None where there is no product of two matrices for it."""
    if not isinstance(layer.get_base_layer(), nn.Linear):
        return None
    of = next((of for kind, of in _FORMS.items() if type(layer) is kind), None)
    found = None if of is None else of(layer)
    return None if found is None else found.no_longer_than_needed()


def _lora(layer: Any) -> Factors | None:
    """s B A, with s = alpha / r, or alpha / sqrt(r) (rsLoRA: Kalajdzievski 2023, arXiv:2312.03732, theorem 3.2)."""
    variant = layer.lora_variant.get(ADAPTER)
    b = layer.lora_B[ADAPTER]
    if (variant is not None and not isinstance(variant, _TRAINED_OTHERWISE)) or b.bias is not None:
        return None
    return Factors.of(layer.lora_A[ADAPTER].weight, b.weight, scale=layer.scaling[ADAPTER])


def _adalora(layer: Any) -> Factors:
    """P diag(E) Q (Zhang et al. 2023, arXiv:2303.10512, equation 3), which peft scales by s / (ranks + 1e-5). Where the
    training set a singular value to zero, its row and column are left out.
    """
    scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER].double() + 1e-5)
    e_R = layer.lora_E[ADAPTER].double().flatten()
    kept = e_R != 0
    a_RI, b_OR = layer.lora_A[ADAPTER].double()[kept], layer.lora_B[ADAPTER][:, kept]
    return Factors.of(a_RI * e_R[kept, None], b_OR, scale=scale)


def _loha(layer: Any) -> Factors:
    """s (W1a W1b) ∘ (W2a W2b) (Hyeon-Woo et al. 2022, arXiv:2108.06098, equation 1): rank r²."""
    first = Factors.of(layer.hada_w1_b[ADAPTER], layer.hada_w1_a[ADAPTER], scale=layer.scaling[ADAPTER])
    return elementwise(first, Factors.of(layer.hada_w2_b[ADAPTER], layer.hada_w2_a[ADAPTER]))


def _lokr(layer: Any) -> Factors:
    """s W1 ⊗ W2 (Yeh et al. 2024, arXiv:2309.14859), each whole or a product."""
    sides = []
    for one in ("lokr_w1", "lokr_w2"):
        whole = getattr(layer, one)
        if ADAPTER in whole:
            sides.append(Factors.whole(whole[ADAPTER]))
        else:
            sides.append(Factors.of(getattr(layer, f"{one}_b")[ADAPTER], getattr(layer, f"{one}_a")[ADAPTER]))
    found = kronecker(*sides)
    return Factors.of(found.a_RI, found.b_OR, scale=layer.scaling[ADAPTER])


def _vera(layer: Any) -> Factors:
    """diag(b) B diag(d) A, with B and A random and shared (Kopiczko et al. 2024, arXiv:2310.11454, equation 2)."""
    a_RI = layer.vera_A[ADAPTER].double()[:, : layer.in_features]
    b_OR = layer.vera_B[ADAPTER].double()[: layer.out_features]
    return Factors.of(
        layer.vera_lambda_d[ADAPTER].double()[:, None] * a_RI, layer.vera_lambda_b[ADAPTER].double()[:, None] * b_OR
    )


def _vblora(layer: Any) -> Factors:
    """B A, made of vectors of a shared bank (Li et al. 2024, arXiv:2405.15179)."""
    a_RI, b_OR = layer._get_lora_matrices(ADAPTER)
    return Factors.of(a_RI, b_OR)


_FORMS: dict[type, Callable[[Any], Factors | None]] = {
    LoraLinear: _lora,
    SVDLinear: _adalora,
    LohaLinear: _loha,
    LokrLinear: _lokr,
    VeraLinear: _vera,
    VbLoraLinear: _vblora,
}
