"""A mixture's experts, which no adapter changes.

Where adapters are on, vLLM wants kernels for experts that compute adapters, too: of plain weights it takes Triton's,
which CPUs do not have, and any other way of holding experts (NF4) ends the engine. Ours have no slots on experts
(`lora.vllm_manager`), so that experts are held and computed as they are without adapters.
"""

from __future__ import annotations

from typing import Any


def leave_experts_alone() -> None:
    """Make experts that are built in this process know of no adapters. May run several times in a process."""
    from vllm.model_executor.layers.fused_moe import layer

    made = layer.FusedMoEConfig
    if getattr(made, "leaves_experts_alone", False):
        return

    def without_adapters(**fields: Any) -> Any:
        return made(**{**fields, "is_lora_enabled": False})

    without_adapters.leaves_experts_alone = True  # type: ignore[attr-defined]
    layer.FusedMoEConfig = without_adapters
