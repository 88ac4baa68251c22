"""Methods that no adapter of a linear layer, and no new base, is made of."""

from __future__ import annotations

from collections.abc import Mapping

NOT_LINEAR: Mapping[str, str] = {
    "ADAPTION_PROMPT": "it adds gated attention over prompts of its own to the blocks",
    "BOTTLENECK": "a bottleneck adapter bends what passes through it between its two matrices",
    "POLY": "which of its matrices apply is chosen for each task",
    "SHADOW": "it runs a model of its own beside the base",
    "XLORA": "how much of each matrix applies depends on the tokens",
}
"""By PEFT's name of the method, why no matrix stands for its update."""
