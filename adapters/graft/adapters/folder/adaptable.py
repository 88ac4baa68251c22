"""Which linear modules of a base are left alone by adapters, whatever PEFT would do."""

from __future__ import annotations

_OUTPUT_HEADS = ("lm_head", "embed_out")


def is_head(module: str) -> bool:
    """Whether a module's path is the output head's."""
    return module.rpartition(".")[2] in _OUTPUT_HEADS


def is_expert(module: str) -> bool:
    """Whether a module is one of a mixture's routed experts, or all of them in one piece.

    Routers and experts that every token passes through (`shared_expert`) are layers like others.
    """
    return "experts" in module.split(".")
