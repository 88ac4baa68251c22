"""vLLM's LoRA manager on CUDA, with adapters that come as slot images and vLLM's own kernels.

Stock `add_lora` parses, casts and pins every tensor in the engine's loop, and copies each over the bus.
"""

from __future__ import annotations

from typing import Any

from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from graft.server.engine.lora.vllm_image import image_model, map_image
from graft.server.engine.lora.vllm_manager import ImageWorkerManager
from graft.server.engine.lora_cuda.staging import Staging


class StagedWorkerManager(ImageWorkerManager):
    """The worker's side on CUDA: an image comes by one copy over the bus, and goes into its slot on the device."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._staging = Staging(self.device)

    @property
    def kernel_name(self) -> str:
        return "punica"

    def create_lora_manager(self, *args: Any, **kwargs: Any) -> Any:
        """With memory for the largest adapter, before vLLM measures what is left for the KV cache."""
        model = super().create_lora_manager(*args, **kwargs)
        if self.takes_images:
            self._staging.reserve(sum(map(largest_bytes, self._adapter_manager.modules.values())))
        return model

    def _read_image(self, lora_request: LoRARequest) -> LoRAModel:
        slices = self._adapter_manager.slices
        tensors = self._staging.moved(map_image(lora_request.lora_path, slices))
        return image_model(tensors, lora_request.lora_int_id, slices)


def largest_bytes(layer: BaseLinearLayerWithLoRA) -> int:
    """Bytes of A and B of the largest rank for one layer: whole matrices, of which tensor parallelism takes slices."""
    base, a, b = layer.base_layer, layer.lora_a_stacked[0], layer.lora_b_stacked[0]
    return int(b.shape[-1] * (layer.n_slices * base.input_size + base.output_size) * a.element_size())
