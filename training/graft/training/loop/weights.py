"""The weights a run computes with, apart from the float32 masters its optimizer moves.

The forward pass uses the *working* weights: bfloat16 for speed, or the NF4 round trip of the masters, so that the model
learns to be right in the form it will be served in. The gradient at the working weights is applied to the masters
(straight-through: Bengio et al. 2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877).
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from graft.training.model.blocks import is_in_a_block
from graft.training.model.quantized import nf4_round_trip

WorkingForm = Callable[[str, Tensor], Tensor]
"""Parameter name and float32 master to the working weight that stands for it."""


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """True for the linear layers inside the blocks; false for embeddings, output head, norms and biases, and for stacks
    of matrices (Mixtral's experts, XLNet's attention).
    """
    is_bias = "bias" in name  # XLNet's and T5's have two axes
    return parameter.ndim == 2 and is_in_a_block(name) and not is_bias


def bfloat16_form(name: str, master: Tensor) -> Tensor:
    return master.to(torch.bfloat16)


def nf4_form(name: str, master: Tensor) -> Tensor:
    """bfloat16, with the linear layers of the blocks rounded to NF4 as serving does."""
    weight = master.to(torch.bfloat16)
    return nf4_round_trip(weight) if is_hidden_matrix(name, master) else weight


class Weights:
    """Float32 masters of a model's trainable parameters, and the way between the two.

    A parameter that is float32 in the model already is its own master. The others' gradients go to their masters as
    soon as a backward pass has added to them: micro-batches add up in float32, which loses none of them, whoever calls
    the backward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.working = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.masters: dict[str, nn.Parameter] = {
            name: parameter if parameter.dtype == torch.float32 else nn.Parameter(parameter.detach().float())
            for name, parameter in self.working.items()
        }
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(functools.partial(_hand_over, self.masters[name]))
            for name, parameter in self.working.items()
            if parameter is not self.masters[name]
        ]

    def release(self) -> None:
        """Lets the masters go: the model is left with the working weights."""
        for hook in self._hooks:
            hook.remove()
        self.working, self.masters, self._hooks = {}, {}, []

    @torch.no_grad()
    def push(self, form: WorkingForm) -> None:
        """Rewrites the working weights from the masters."""
        for name, parameter in self.working.items():
            if parameter is not self.masters[name]:
                # Rounded on the way, where the form is nothing else: no second copy is made.
                plain = form is bfloat16_form and parameter.dtype == torch.bfloat16
                parameter.copy_(self.masters[name] if plain else form(name, self.masters[name]))


def _hand_over(master: nn.Parameter, parameter: Tensor) -> None:
    """What a parameter's gradient is, as a part of its master's."""
    assert parameter.grad is not None
    master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
    parameter.grad = None
