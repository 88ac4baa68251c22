"""vLLM's LoRA managers on CPU, with our slots: which adapter sits where, and which rows of a step are whose."""

from __future__ import annotations

from typing import Any

from vllm.lora.model_manager import DEFAULT_LANGUAGE_WRAPPER_KEY

from graft.server.engine.lora.vllm_manager import ImageWorkerManager, LinearSlots
from graft.server.engine.lora_cpu.choice import chosen_kernel
from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.vllm_module import SlottedLinear


class SlotManager(LinearSlots):
    """Adapters in the slots of one model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Raises `NotImplementedError` for a base with layers that our kernels do not compute."""
        super().__init__(*args, **kwargs)
        if self.other_layers or self.supports_mm:
            what = ", ".join(sorted(self.other_layers)) or "a multimodal model"
            raise NotImplementedError(f"adapters on CPU serve the linear layers of text models, not {what}")
        self.kernel = chosen_kernel()
        self.layers = {name: SlottedLinear(layer, self.kernel) for name, layer in self.modules.items()}
        self._slots_in_use: frozenset[int] = frozenset()

    def _init_punica_wrapper(self, max_num_batched_tokens: int, vllm_config: Any) -> None:
        """None of vLLM's kernels: on CPU they answer rows of the base with an adapter."""
        self.supports_mm = hasattr(self.model, "get_mm_mapping")
        self.punica_wrapper_mapping = {DEFAULT_LANGUAGE_WRAPPER_KEY: _NoPunica()}

    def activate_adapter(self, lora_id: int) -> bool:
        self._slots_in_use = frozenset({-1})
        return super().activate_adapter(lora_id)

    def _set_adapter_mapping(self, mapping: Any) -> None:
        slot_of = {adapter: slot for slot, adapter in enumerate(self.lora_index_to_id) if adapter is not None}
        segments = Segments([slot_of[adapter] if adapter else -1 for adapter in mapping.index_mapping])
        self.kernel.begin_step(segments)
        slots = frozenset(segments.slots.tolist())
        if slots != self._slots_in_use:
            self._slots_in_use = slots
            for layer in self.layers.values():
                layer.switch(any(layer.weights.touched(slot) for slot in slots))


class SlotWorkerManager(ImageWorkerManager):
    """The worker's side on CPU."""

    _manager_cls = SlotManager

    @property
    def kernel_name(self) -> str:
        return str(self._adapter_manager.kernel.name)


class _NoPunica:
    """Stands where vLLM's layers keep their kernels, which are never called."""
