"""Starting an engine: its process, its environment and what is asked of it before it is used."""

from __future__ import annotations

import asyncio
import functools
import logging

from vllm.config import ModelConfig, StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from graft.server.engine.engine import EngineError
from graft.server.engine.lora_cpu.choice import KernelUnavailable
from graft.server.engine.process.shared_names import SharedNames
from graft.server.engine.vllm.detokenizer import start_inside_characters
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.device import device_of
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.environment import (
    EngineSettings,
    environment,
    prepare_environment,
    sockets_in_a_folder,
)
from graft.server.engine.vllm.heartbeat import Heartbeat
from graft.server.engine.vllm.inside.last_words import told_why
from graft.server.engine.vllm.inside.leading_embeddings import pass_leading_embeddings, take_leading_embeddings
from graft.server.engine.vllm.messaging import queues as vllm_queues

_log = logging.getLogger(__name__)
_STARTING = asyncio.Lock()
"""One engine starts at a time: what its processes get stands in this process's environment meanwhile."""


async def start_engine(settings: EngineSettings) -> VllmEngine:
    """Start the engine's process and load the base; takes half a minute on two cores.

    Raises `EngineError` where the worker does not run our LoRA manager (a vLLM plugin can vanish silently) or the base
    cannot be loaded.
    """
    engine = await launch(settings)
    try:
        await engine.look_at_processor()
        if settings.num_slots:
            slot_bytes = await engine.check_lora()
            _log.info(
                "%d adapter slots of rank %d take %.1f MiB", settings.num_slots, settings.rank_step, slot_bytes / 2**20
            )
    except BaseException:
        await engine.close()
        raise
    return engine


async def launch(settings: EngineSettings) -> VllmEngine:
    """Start the engine's process with whatever LoRA manager it has. Raises `EngineError`."""
    try:
        prepare_environment(settings)
        device = device_of(current_platform)
        variables, plan = device.variables(settings), device.plan(settings)
    except KernelUnavailable as error:
        raise EngineError(str(error)) from error
    if plan:
        _log.info("the engine takes %s", plan)
    # One for all requests: vLLM's engine keeps the backend of its first one. It reads our grammars (see `schema`).
    guidance = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)
    arguments = AsyncEngineArgs(**engine_arguments(settings, device), structured_outputs_config=guidance)
    heartbeat = Heartbeat()
    start_inside_characters()
    take_leading_embeddings()
    pass_leading_embeddings()
    make = functools.partial(
        AsyncLLM.from_engine_args,
        arguments,
        # As a server reads prompts, 8,192 tokens a step on large GPUs, not as a caller in Python: 2,048.
        usage_context=UsageContext.OPENAI_API_SERVER,
        stat_loggers=[lambda config, index: heartbeat],
    )
    names = _shared_names(device.num_workers(settings))
    try:
        async with _STARTING:
            with environment(variables), sockets_in_a_folder() as folder, names.given():
                try:
                    llm = await asyncio.to_thread(make)
                except Exception as error:
                    why = told_why(folder.path) or error
                    taken = f" (it takes {plan})" if plan else ""
                    raise EngineError(f"the engine did not start on {settings.base_name}: {why}{taken}") from error
    except BaseException:
        names.close()
        raise
    names.remove()
    if settings.max_model_tokens is None:
        _tell_of_a_shorter_context(llm.model_config)
    return VllmEngine(llm, settings, heartbeat, folder, names)


def _tell_of_a_shorter_context(config: ModelConfig) -> None:
    made_for = config.get_and_verify_max_len(-1)
    if config.max_model_len < made_for:
        _log.warning(
            "the context holds %d tokens of the %d that the base was made for: the key-value cache has no room for more"
            " (see --kv-cache-mib, --gpu-memory-fraction)",
            config.max_model_len,
            made_for,
        )


def _shared_names(num_workers: int) -> SharedNames:
    if num_workers and (problem := vllm_queues.lack_of_room(num_workers)):
        raise EngineError(f"the engine cannot start: {problem}")
    try:
        return SharedNames()
    except OSError as error:
        raise EngineError(f"there is no place for the engine's shared memory: {error}") from error
