"""Whether a base can be split over the GPUs that are here: asked of vLLM before a process is started."""

from __future__ import annotations

from collections.abc import Iterator

from vllm.config import ModelConfig, ParallelConfig

from graft.adapters.errors import Reason
from graft.server.engine.vllm.devices.cuda import CudaPlatform
from graft.server.engine.vllm.environment import EngineSettings


def split_reasons(settings: EngineSettings, config: ModelConfig, platform: CudaPlatform) -> Iterator[Reason]:
    """Why the base cannot be split so; nothing where it is not split."""
    tensor, pipeline = settings.tensor_parallel_size, settings.pipeline_parallel_size
    if tensor * pipeline == 1 or platform.is_cpu():
        return
    if (count := platform.device_count()) < tensor * pipeline:
        problem = f"times pipeline_parallel_size is {tensor * pipeline}, and there are {count} GPUs"
        remedy = "ask for as many as there are; CUDA_VISIBLE_DEVICES may hide some"
        yield Reason(field="tensor_parallel_size", problem=problem, remedy=remedy)
        return  # vLLM refuses what follows for that very reason
    try:
        config.verify_with_parallel_config(ParallelConfig(tensor_parallel_size=tensor))
    except ValueError:
        heads = config.model_arch_config.total_num_attention_heads
        problem = f"is {tensor}, and the base's {heads} attention heads cannot be shared out so"
        yield Reason(field="tensor_parallel_size", problem=problem, remedy=f"take a divisor of {heads}")
    if pipeline > 1 and not config.registry.is_pp_supported_model(config.architectures, config):
        problem = f"is {pipeline}, and the engine has no pipeline for {config.architecture}"
        yield Reason(field="pipeline_parallel_size", problem=problem, remedy="split it by --tensor-parallel-size")
