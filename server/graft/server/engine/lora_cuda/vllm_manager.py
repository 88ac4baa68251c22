"""vLLM's LoRA manager on CUDA, with adapters that come as slot images and vLLM's own kernels.

Stock `add_lora` parses, casts and pins every tensor in the engine's loop, and copies each over the bus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from graft.server.engine.lora.tensor_file import map_tensors
from graft.server.engine.lora.vllm_image import lora_model
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

    def _read_image(self, lora_request: LoRARequest) -> LoRAModel:
        tensors = self._staging.moved(map_tensors(Path(lora_request.lora_path)))
        return lora_model(tensors, lora_request.lora_int_id, self._adapter_manager.slices)
