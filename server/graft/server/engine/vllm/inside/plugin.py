"""The vLLM plugin (entry-point group `vllm.general_plugins`): loaded in every engine process."""

from __future__ import annotations

from typing import Any

NAME = "graft_engine"
"""The entry point's name: what `VLLM_PLUGINS` must list."""


def register() -> None:
    """Put parts of ours in the place of vLLM's: the LoRA manager, how grammars read tokenizers, how much of a prompt is
    read from the cache, experts without slots, prompts that begin with embeddings, answers by heads, attention,
    products, and the queues.
    May run several times in a process."""
    from vllm.platforms import current_platform

    from graft.server.engine.linear_cpu.products import leave_out_packing, multiply_in_float32
    from graft.server.engine.native.amx import use_tiles_with_leave
    from graft.server.engine.process.orphans import end_with_parent
    from graft.server.engine.process.shared_names import adopt_names
    from graft.server.engine.tokenizer.for_grammars import read_every_tokenizer
    from graft.server.engine.vllm.inside.cached_prefix import limit_reads
    from graft.server.engine.vllm.inside.experts import leave_experts_alone
    from graft.server.engine.vllm.inside.flashinfer import pass_over_uncompiled
    from graft.server.engine.vllm.inside.heads import answer_by_heads
    from graft.server.engine.vllm.inside.last_block import share_last_blocks
    from graft.server.engine.vllm.inside.last_words import tell_why
    from graft.server.engine.vllm.inside.leading_embeddings import embed_where_needed, take_leading_embeddings
    from graft.server.engine.vllm.inside.managers import manager_of
    from graft.server.engine.vllm.inside.seeds import turn_back_seeds
    from graft.server.engine.vllm.messaging.queues import shorten, sleep_between_polls
    from graft.server.engine.vllm.messaging.rendezvous import meet_beside_sockets

    end_with_parent()
    tell_why()
    adopt_names()
    meet_beside_sockets()
    read_every_tokenizer()
    limit_reads()
    share_last_blocks()
    leave_experts_alone()
    take_leading_embeddings()
    shorten()
    if current_platform.is_cpu():
        use_tiles_with_leave()
        multiply_in_float32()
        leave_out_packing()
        turn_back_seeds()
        embed_where_needed()
        answer_by_heads()
        sleep_between_polls()
    else:
        pass_over_uncompiled()
    use_manager(manager_of(current_platform))


def use_manager(name: str) -> None:
    """Serve adapters with this class, `module.Class`."""
    from vllm.utils.import_utils import resolve_obj_by_qualname
    from vllm.v1.worker import lora_model_runner_mixin

    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = resolve_obj_by_qualname(name)


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

    def graft_compilations(self) -> list[str]:
        """Kernels that this worker compiled, by name, since it was first asked; of a GPU, by vLLM's own watch."""
        from vllm.utils import jit_monitor

        if not hasattr(self, "_compiled"):
            self._compiled: list[str] = []
            handle = jit_monitor._handle_jit_event

            def noted(**event: Any) -> None:
                self._compiled.append(str(event["fn_name"]))
                handle(**event)

            jit_monitor._handle_jit_event = noted
        return list(self._compiled)

    def graft_embeddings(self, ids: list[int]) -> list[list[float]]:
        """The model's own embeddings of token ids; none of a stage of a pipeline that is not the first."""
        import torch
        from vllm.distributed.parallel_state import get_pp_group

        if not get_pp_group().is_first_rank:
            return []
        model = self.model_runner.get_model()
        with torch.inference_mode():
            embedded_ND = model.embed_input_ids(torch.tensor(ids, device=self.model_runner.device))
        found: list[list[float]] = embedded_ND.float().tolist()
        return found

    def graft_lora_report(self) -> dict[str, Any]:
        """`manager`: the class that serves adapters in this worker, as `module.Class`; with ours, what it tells."""
        manager = self.model_runner.lora_manager
        kind = type(manager)
        return {"manager": f"{kind.__module__}.{kind.__qualname__}", **getattr(manager, "told", dict)()}
