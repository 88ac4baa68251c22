"""Soft caps of attention's scores (Gemma 2: Gemma Team 2024, arXiv:2408.00118, §2), which the engine computes."""

from __future__ import annotations

from typing import Any


def attention_of(config: Any) -> str | None:
    """What transformers must attend with: torch's fused kernel, its default, leaves soft caps out without a word."""
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None else None
