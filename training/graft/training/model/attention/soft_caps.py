"""Soft caps of attention's scores (Gemma 2: Gemma Team 2024, arXiv:2408.00118, §2), which torch's fused kernel leaves
out without a word.
"""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


def has_soft_caps(config: PretrainedConfig) -> bool:
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def keep_soft_caps(model: nn.Module) -> None:
    """Models that have them attend as their classes write it, in ``eager``, and not by torch's fused kernel."""
    for one in model.modules():
        if isinstance(one, PreTrainedModel) and has_soft_caps(one.config) and one.config._attn_implementation == "sdpa":
            one.config._attn_implementation = "eager"
