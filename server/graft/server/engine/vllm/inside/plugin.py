"""The vLLM plugin (entry-point group `vllm.general_plugins`): loaded in every engine process."""

from __future__ import annotations

from typing import Any

NAME = "graft_lora_cpu"
"""The entry point's name: what `VLLM_PLUGINS` must list."""

MANAGER = "graft.server.engine.lora_cpu.vllm_manager.SlotWorkerManager"
"""The class that must be in force on CPU; start-up asks the worker for it."""


def register() -> None:
    """Put parts of ours in the place of vLLM's: on CPU the LoRA manager, the queues and how seeded requests begin,
    everywhere how grammars read tokenizers and how much of a prompt is read from the cache. May run several times in a
    process."""
    from vllm.platforms import current_platform

    from graft.server.engine.native.amx import use_tiles_with_leave
    from graft.server.engine.process.orphans import end_with_parent
    from graft.server.engine.process.shared_names import adopt_names
    from graft.server.engine.tokenizer.for_grammars import read_every_tokenizer
    from graft.server.engine.vllm.inside.cached_prefix import limit_reads
    from graft.server.engine.vllm.inside.last_block import share_last_blocks
    from graft.server.engine.vllm.inside.seeds import turn_back_seeds
    from graft.server.engine.vllm.messaging.queues import shorten, sleep_between_polls
    from graft.server.engine.vllm.messaging.rendezvous import meet_beside_sockets

    end_with_parent()
    adopt_names()
    meet_beside_sockets()
    read_every_tokenizer()
    limit_reads()
    share_last_blocks()
    if current_platform.is_cpu():
        use_tiles_with_leave()
        turn_back_seeds()
        shorten()
        sleep_between_polls()
        from vllm.v1.worker import lora_model_runner_mixin

        from graft.server.engine.lora_cpu.vllm_manager import SlotWorkerManager

        lora_model_runner_mixin.LRUCacheWorkerLoRAManager = SlotWorkerManager


def _renames(model: Any) -> bool:
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return False
    names = mapper.get_rename_mapper()
    maps = ("renaming", "regex", "substr", "prefix", "suffix")
    return any(getattr(names, f"orig_to_new_{kind}") for kind in maps)


class WorkerReport:
    """Mixed into vLLM's worker (`worker_extension_cls`), which is how start-up learns what really runs there."""

    model_runner: Any

    def graft_processor_report(self) -> dict[str, str]:
        """What this worker uses of the processor: torch's and oneDNN's own words, and whether AMX tiles may be used."""
        import os

        import torch

        from graft.server.engine.native.amx import ask_for_tiles

        limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or "no limit"
        return {"torch": torch.backends.cpu.get_cpu_capability(), "oneDNN": limit, "AMX tiles": ask_for_tiles()}

    def graft_lora_report(self) -> dict[str, Any]:
        """`manager`: the class that serves adapters in this worker, as `module.Class`. With ours, `kernel` and `dtype`
        by name, `max_rank`, and `modules`: the engine's modules, each with the base's modules that are its slices."""
        manager = self.model_runner.lora_manager
        kind = type(manager)
        report: dict[str, Any] = {"manager": f"{kind.__module__}.{kind.__qualname__}"}
        if report["manager"] == MANAGER:
            slots = manager._adapter_manager
            report["kernel"] = slots.kernel.name
            report["dtype"] = str(slots.lora_config.lora_dtype).removeprefix("torch.")
            report["max_rank"] = slots.lora_config.max_lora_rank
            # A model whose modules have other names in vLLM has its adapters loaded by vLLM, which knows how.
            report["modules"] = {} if _renames(slots.model) else slots.slices
        return report
