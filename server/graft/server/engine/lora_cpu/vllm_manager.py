"""vLLM's LoRA managers on CPU, with our slots: which adapter sits where, and which rows of a step are whose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import DEFAULT_LANGUAGE_WRAPPER_KEY, LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from graft.server.engine.lora_cpu.choice import chosen_kernel
from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.slot_image import is_image
from graft.server.engine.lora_cpu.vllm_image import read_image
from graft.server.engine.lora_cpu.vllm_module import SlottedLinear


class SlotManager(LRUCacheLoRAModelManager):
    """Adapters in the slots of one model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Raises `NotImplementedError` for a base with layers that our kernels do not compute."""
        super().__init__(*args, **kwargs)
        others = {
            type(layer).__name__ for layer in self.modules.values() if not isinstance(layer, BaseLinearLayerWithLoRA)
        }
        if others or self.supports_mm:
            what = ", ".join(sorted(others)) or "a multimodal model"
            raise NotImplementedError(f"adapters on CPU serve the linear layers of text models, not {what}")
        self.kernel = chosen_kernel()
        self.layers = {name: SlottedLinear(layer, self.kernel) for name, layer in self.modules.items()}
        self.slices = {name: self.packed_modules.get(name, [name]) for name in self.layers}
        self._slots_in_use: frozenset[int] = frozenset()

    def _init_punica_wrapper(self, max_num_batched_tokens: int, vllm_config: Any) -> None:
        """None of vLLM's kernels: on CPU they answer rows of the base with an adapter."""
        self.supports_mm = hasattr(self.model, "get_mm_mapping")
        self.punica_wrapper_mapping = {DEFAULT_LANGUAGE_WRAPPER_KEY: _NoPunica()}

    def _create_lora_modules(self) -> None:
        """Slots for linear layers only: adapters of embeddings and the output head are refused when registered, and
        their slots would be the largest by far."""
        tables: set[str] = set(self.model.embedding_modules)
        linear: list[str] = self.supported_lora_modules  # type: ignore[has-type]  # set by vLLM's class
        self.supported_lora_modules = [name for name in linear if name not in tables]
        super()._create_lora_modules()

    def activate_adapter(self, lora_id: int) -> bool:
        """Copy an adapter into a free slot. One that does not fit leaves no trace."""
        # The slots change: decide anew which layers are touched.
        self._last_mapping, self._slots_in_use = None, frozenset({-1})
        try:
            entered = bool(super().activate_adapter(lora_id))
        except BaseException:
            self.remove_adapter(lora_id)
            raise
        self._registered_adapters[lora_id].loras.clear()  # copied: its image need not stay in memory
        return entered

    def _set_adapter_mapping(self, mapping: Any) -> None:
        slot_of = {adapter: slot for slot, adapter in enumerate(self.lora_index_to_id) if adapter is not None}
        segments = Segments([slot_of[adapter] if adapter else -1 for adapter in mapping.index_mapping])
        self.kernel.begin_step(segments)
        slots = frozenset(segments.slots.tolist())
        if slots != self._slots_in_use:
            self._slots_in_use = slots
            for layer in self.layers.values():
                layer.switch(any(layer.weights.touched(slot) for slot in slots))


class SlotWorkerManager(LRUCacheWorkerLoRAManager):
    """The worker's side of loading: an adapter comes as a slot image, made outside the engine's loop."""

    _manager_cls = SlotManager

    def _load_adapter(self, lora_request: LoRARequest) -> LoRAModel:
        if is_image(lora_request.lora_path):
            return read_image(lora_request.lora_path, lora_request.lora_int_id, self._adapter_manager.slices)
        return super()._load_adapter(lora_request)

    def _apply_adapters(self, lora_requests: Iterable[LoRARequest]) -> None:
        """Each step's adapters; all are in their slots already unless the engine was asked past `Slots`."""
        active = self._adapter_manager._active_adapters
        if missing := {request for request in lora_requests if request.lora_int_id not in active}:
            # Those of the step that are there become the most recently used: none of them makes room.
            super()._apply_adapters(set(lora_requests) - missing)
            super()._apply_adapters(missing)


class _NoPunica:
    """Stands where vLLM's layers keep their kernels, which are never called."""
