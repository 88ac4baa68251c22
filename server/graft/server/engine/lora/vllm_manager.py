"""vLLM's LoRA managers, with adapters that come as slot images; what CPU and GPU have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
from vllm.model_executor.layers.fused_moe import MoERunner

from graft.server.engine.lora.head import HeadWeights
from graft.server.engine.lora.slot_image import is_image
from graft.server.engine.lora.vllm_image import ImageModel, image_model, map_image


class LinearSlots(LRUCacheLoRAModelManager):
    """Adapters in the slots of one model's linear layers; `heads` of those that bring one, by engine id."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.heads: dict[int, HeadWeights] = {}
        super().__init__(*args, **kwargs)
        self.slices = {name: self.packed_modules.get(name, [name]) for name in self.modules}

    @property
    def other_layers(self) -> set[str]:
        """Classes of layers with slots that are not linear ones."""
        return {
            type(layer).__name__ for layer in self.modules.values() if not isinstance(layer, BaseLinearLayerWithLoRA)
        }

    @property
    def num_bytes(self) -> int:
        """Of all slots, on this worker's device."""
        layers = self.modules.values()
        return sum(each.nbytes for layer in layers for each in (*layer.lora_a_stacked, *layer.lora_b_stacked))

    def _create_lora_modules(self) -> None:
        """Slots for linear layers only: adapters of embeddings, the output head and a mixture's experts are refused
        when registered, and their slots would be the largest by far."""
        others = {*self.model.embedding_modules, *_experts(self.model)}
        linear: list[str] = self.supported_lora_modules  # type: ignore[has-type]  # set by vLLM's class
        self.supported_lora_modules = [name for name in linear if name not in others]
        super()._create_lora_modules()

    def _create_merged_loras_inplace(self, lora_model: LoRAModel) -> None:
        """An image has nothing to merge. vLLM's merging reads the first module, of which there may be none in this
        stage of a pipeline, and prints a tensor to learn its device, which waits for a GPU."""
        if not isinstance(lora_model, ImageModel):
            super()._create_merged_loras_inplace(lora_model)

    def activate_adapter(self, lora_id: int) -> bool:
        """Copy an adapter into a free slot. One that does not fit leaves no trace."""
        # The slots change: decide anew which layers are touched.
        self._last_mapping = None
        try:
            entered = bool(super().activate_adapter(lora_id))
        except BaseException:
            self.remove_adapter(lora_id)
            raise
        model = self._registered_adapters[lora_id]
        model.loras.clear()  # copied: its image need not stay in memory
        if isinstance(model, ImageModel) and model.head is not None:
            self.heads[lora_id] = model.head
        return entered

    def _deactivate_adapter(self, lora_id: int) -> None:
        super()._deactivate_adapter(lora_id)
        self.heads.pop(lora_id, None)


class ImageWorkerManager(LRUCacheWorkerLoRAManager, ABC):
    """The worker's side of loading: an adapter comes as a slot image, made outside the engine's loop."""

    _manager_cls = LinearSlots

    def told(self) -> dict[str, Any]:
        """`kernel` and `dtype` by name, `max_rank`, `slot_bytes` of all slots together, and `modules`: the engine's
        modules, each with the base's modules that are its slices; none where adapters are loaded by vLLM, from their
        own files.
        """
        slots = self._adapter_manager
        return {
            "kernel": self.kernel_name,
            "dtype": str(slots.lora_config.lora_dtype).removeprefix("torch."),
            "max_rank": slots.lora_config.max_lora_rank,
            "slot_bytes": slots.num_bytes,
            "modules": slots.slices if self.takes_images else {},
        }

    @property
    def heads(self) -> Mapping[int, HeadWeights]:
        """Of the adapters that sit in slots."""
        heads: Mapping[int, HeadWeights] = self._adapter_manager.heads
        return heads

    @property
    def takes_images(self) -> bool:
        """A model whose modules have other names in vLLM has its adapters loaded by vLLM, which knows how."""
        slots = self._adapter_manager
        parts = [part for each in slots.slices.values() for part in each]
        return not (slots.other_layers or _renames(slots.model, parts))

    @property
    @abstractmethod
    def kernel_name(self) -> str:
        """What computes adapters."""

    def _load_adapter(self, lora_request: LoRARequest) -> LoRAModel:
        if is_image(lora_request.lora_path):
            return self._read_image(lora_request)
        return super()._load_adapter(lora_request)

    def _read_image(self, lora_request: LoRARequest) -> LoRAModel:
        slices = self._adapter_manager.slices
        return image_model(map_image(lora_request.lora_path, slices), lora_request.lora_int_id, slices)

    def _apply_adapters(self, lora_requests: Iterable[LoRARequest]) -> None:
        """Each step's adapters; all are in their slots already unless the engine was asked past `Slots`."""
        active = self._adapter_manager._active_adapters
        if missing := {request for request in lora_requests if request.lora_int_id not in active}:
            # Those of the step that are there become the most recently used: none of them makes room.
            super()._apply_adapters(set(lora_requests) - missing)
            super()._apply_adapters(missing)


def _experts(model: Any) -> set[str]:
    """What the experts of a mixture are called in their layer; nothing where there are none."""
    return {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, MoERunner)}


def _renames(model: Any, names: Iterable[str]) -> bool:
    """Whether a module that is called one of `names` in vLLM may have another name in the base's files."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return False
    maps = mapper.get_rename_mapper()
    weights = [f"{name}.weight" for name in names]
    return bool(
        maps.orig_to_new_renaming
        or maps.orig_to_new_regex
        or any(new in weight for new in maps.orig_to_new_substr.values() for weight in weights)
        or any(weight.startswith(new) for new in maps.orig_to_new_prefix.values() for weight in weights)
        or any(weight.endswith(new) for new in maps.orig_to_new_suffix.values() for weight in weights)
    )
