"""vLLM's own scheduler with a worker that keeps, in each place of the KV cache, what its keys and values depend on."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from graft.server.engine.vllm.inside.last_block import share_last_blocks

BLOCK = 4
Content = tuple[Any, ...]


class SymbolicEngine:
    """`depth` steps are under way at a time: with 2, as on a GPU, one is scheduled before the last output is read.

    A step's copies run before its pass, and in a pass all places are written before they are read, as in vLLM's
    workers. `step` raises AssertionError where a request reads a place that does not hold its own.
    """

    def __init__(self, config: VllmConfig, *, num_blocks: int = 100, depth: int = 1) -> None:
        share_last_blocks()
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
        groups = [KVCacheGroupSpec(layer_names=["layer"], kv_cache_spec=spec)]
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(BLOCK, sha256)
        self.scheduler: Scheduler = (AsyncScheduler if depth > 1 else Scheduler)(
            config,
            KVCacheConfig(num_blocks=num_blocks, kv_cache_tensors=[], kv_cache_groups=groups),
            StructuredOutputManager(config),
            block_size=BLOCK,
            log_stats=True,
        )
        self._depth = depth
        self._under_way: deque[tuple[Any, ModelRunnerOutput]] = deque()
        self._memory: dict[tuple[int, int], Content | None] = {}
        self._tables: dict[str, list[int]] = {}
        self._requests: dict[str, Request] = {}
        self.num_computed: dict[str, int] = {}
        """Of each request: the tokens that were computed for it so far."""
        self.num_uncached = 0
        """Prompts' tokens that vLLM's statistics call no hits."""

    def add(self, tokens: Sequence[int], *, salt: str = "", lora: int = 0, **options: Any) -> str:
        name = f"r{len(self._requests)}"
        request = Request(
            request_id=name,
            prompt_token_ids=list(tokens),
            sampling_params=SamplingParams(**{"max_tokens": 4, "ignore_eos": True, **options}),
            pooling_params=None,
            lora_request=LoRARequest(f"lora{lora}", lora, "/nowhere") if lora else None,
            cache_salt=salt or None,
            block_hasher=self._hasher,
        )
        self._requests[name], self.num_computed[name] = request, 0
        self.scheduler.add_request(request)
        return name

    def abort(self, name: str) -> None:
        if name in self._requests and not self._requests[name].is_finished():
            self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def run(self, max_steps: int = 1000) -> int:
        """How many steps all requests took. Raises AssertionError where they do not end."""
        for step in range(max_steps):
            if not self.scheduler.has_unfinished_requests():
                return step
            self.step()
        raise AssertionError(f"no end after {max_steps} steps")

    def step(self) -> None:
        output = self.scheduler.schedule()
        self._execute(output)
        self._under_way.append((output, self._sampled(output)))
        if len(self._under_way) == self._depth:
            for outputs in self.scheduler.update_from_output(*self._under_way.popleft()).values():
                if outputs.scheduler_stats is not None and (found := outputs.scheduler_stats.prefix_cache_stats):
                    self.num_uncached += found.queries - found.hits

    def _execute(self, output: Any) -> None:
        copies = [(copy.dst_block_id, self._block(copy.src_block_id)) for copy in output.kv_cache_block_copies or ()]
        for block, contents in copies:
            self._memory |= {(block, offset): content for offset, content in contents.items()}
        ends = self._ends(output)
        for name, end in ends.items():
            self.num_computed[name] += output.num_scheduled_tokens[name]
            for at in range(end - output.num_scheduled_tokens[name], end):
                self._memory[self._place(name, at)] = self._content(name, at)
        for name, end in ends.items():
            for at in range(end):
                assert self._memory.get(self._place(name, at)) == self._content(name, at), (name, at)

    def _ends(self, output: Any) -> dict[str, int]:
        """How many tokens each scheduled request has after the step; block tables are kept as vLLM's workers do."""
        begins = {}
        for new in output.scheduled_new_reqs:
            self._tables[new.req_id], begins[new.req_id] = list(new.block_ids[0]), new.num_computed_tokens
        old = output.scheduled_cached_reqs
        for name, blocks, begin in zip(old.req_ids, old.new_block_ids, old.num_computed_tokens, strict=True):
            before = [] if name in old.resumed_req_ids else self._tables[name]
            self._tables[name], begins[name] = [*before, *(blocks[0] if blocks else ())], begin
        return {name: begins[name] + number for name, number in output.num_scheduled_tokens.items()}

    def _sampled(self, output: Any) -> ModelRunnerOutput:
        names = list(output.num_scheduled_tokens)
        requests = [self._requests[name] for name in names]
        tokens = [
            [] if request.is_prefill_chunk else [self._token(request.request_id, request.num_computed_tokens)]
            for request in requests
        ]
        return ModelRunnerOutput(names, {name: at for at, name in enumerate(names)}, tokens)

    def _token(self, name: str, at: int) -> int:
        """Of the prompt, or what is sampled there, which never depends on what else runs."""
        prompt = self._requests[name].prompt_token_ids
        assert prompt is not None
        return prompt[at] if at < len(prompt) else random.Random(f"{name}/{at}").randrange(3)

    def _content(self, name: str, at: int) -> Content:
        request = self._requests[name]
        tokens = tuple(self._token(name, each) for each in range(at + 1))
        return request.cache_salt, request.lora_request and request.lora_request.lora_name, tokens

    def _place(self, name: str, at: int) -> tuple[int, int]:
        return self._tables[name][at // BLOCK], at % BLOCK

    def _block(self, block: int) -> dict[int, Content | None]:
        return {offset: self._memory.get((block, offset)) for offset in range(BLOCK)}
