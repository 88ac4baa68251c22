"""Which linear modules of a base are left alone by adapters, whatever PEFT would do."""

from __future__ import annotations

from collections.abc import Mapping

_OUTPUT_HEADS = ("lm_head", "embed_out")


def is_head(module: str) -> bool:
    """Whether a module's path is the output head's."""
    return module.rpartition(".")[2] in _OUTPUT_HEADS


def is_expert(module: str) -> bool:
    """Whether a module is one of a mixture's routed experts, or all of them in one piece.

    Routers and experts that every token passes through (`shared_expert`) are layers like others.
    """
    return "experts" in module.split(".")


NOT_LINEAR: Mapping[str, str] = {
    "ADAPTION_PROMPT": "it adds gated attention over prompts of its own to the blocks",
    "BOTTLENECK": "a bottleneck adapter bends what passes through it between its two matrices",
    "POLY": "which of its matrices apply is chosen for each task",
    "SHADOW": "it runs a model of its own beside the base",
    "XLORA": "how much of each matrix applies depends on the tokens",
}
"""By PEFT's name of the method, why no matrix stands for its update."""
