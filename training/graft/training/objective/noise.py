"""Noise on embeddings while a model learns: NEFTune (Jain et al. 2023, arXiv:2310.05914, alg. 1).

Legend: B rows, L tokens per row, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from graft.training.batch.packing import PackedBatch


@contextlib.contextmanager
def noisy_embeddings(model: nn.Module, batch: PackedBatch, alpha: float) -> Iterator[None]:
    """Inside, a token's embedding has noise of ±``alpha`` / √(its document's tokens · D), evenly drawn from torch's
    generator. Documents side by side have the noise that each would have alone.
    """
    lengths_BL = document_lengths(batch.document_BL)

    def add(module: nn.Module, given: object, states_BLD: Tensor) -> Tensor:
        if states_BLD.shape[:-1] != lengths_BL.shape:
            return states_BLD
        scale_BL = alpha / (lengths_BL * states_BLD.shape[-1]).sqrt()
        noise_BLD = torch.empty_like(states_BLD, dtype=torch.float32).uniform_(-1, 1)
        return states_BLD + (noise_BLD * scale_BL[..., None]).to(states_BLD.dtype)

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def document_lengths(document_BL: Tensor) -> Tensor:
    """Of each token's document, its tokens, as numbers with a fraction. A device need not be waited for."""
    num_rows, length = document_BL.shape
    counts = document_BL.new_zeros(num_rows, length + 1)  # no row has more documents than tokens
    counts.scatter_add_(1, document_BL, torch.ones_like(document_BL))
    return counts.gather(1, document_BL).float()
