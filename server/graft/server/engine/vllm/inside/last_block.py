"""A prompt's last, partial block of the KV cache, copied from a running request that began with the same tokens.

vLLM's prefix cache holds whole blocks, so that requests with one prompt (sampled paths, votes) compute its end once
each. vLLM can copy a block for a request that goes on inside it (`SingleTypeKVCacheManager._apply_cow`, made for models
with Mamba layers), and runs the copies before a step's forward pass; only its lookup never asks for one elsewhere. Here
the lookup does, and a request whose prompt is just being computed by another one waits for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graft.server.engine.vllm.inside.cached_prefix import LIMIT

_STATE, _WAITS_FOR = "graft_last_blocks", "graft_waits_for"


def share_last_blocks() -> None:
    """Make the engine's process copy last blocks. May run several times in a process."""
    from vllm.v1.core.sched.scheduler import Scheduler

    find, is_ready = Scheduler._get_local_prefix_cache_hit, Scheduler._handle_blocked_waiting_request
    if getattr(find, "copies_last_block", False):
        return

    def find_with_last_block(scheduler: Scheduler, request: Any) -> Any:
        blocks, num_tokens, *others = find(scheduler, request)
        return *_last_blocks(scheduler).added(request, blocks, num_tokens), *others

    def is_ready_and_need_not_wait(scheduler: Scheduler, request: Any) -> bool:
        return is_ready(scheduler, request) and not _last_blocks(scheduler).must_wait(request)

    find_with_last_block.copies_last_block = True  # type: ignore[attr-defined]
    Scheduler._get_local_prefix_cache_hit = find_with_last_block
    Scheduler._handle_blocked_waiting_request = is_ready_and_need_not_wait


def _last_blocks(scheduler: Any) -> LastBlocks:
    if not hasattr(scheduler, _STATE):
        setattr(scheduler, _STATE, LastBlocks(scheduler))
    found: LastBlocks = getattr(scheduler, _STATE)
    return found


class LastBlocks:
    """Who may copy whose last block, in one scheduler.

    A request needs keys and values of all its tokens but the last. They are copied where another running request has
    the same tokens up to there, under the same salt and adapter, and computed them in an *earlier* step: copies run
    before the pass of their own step.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._cache = scheduler.kv_cache_manager
        self._step = -1
        self._admitted: set[str] = set()
        """Requests that were looked up in step `_step`: what they read may be computed or copied in it only."""
        self._is_possible = _has_full_attention_only(scheduler)

    def added(self, request: Any, blocks: Any, num_tokens: int) -> tuple[Any, int]:
        """`blocks`, the request's hit of `num_tokens`, with the block that is to be copied, where there is one."""
        self._looked_up().add(request.request_id)
        end, size = request.num_tokens - 1, self._scheduler.block_size
        if not self._may_share(request) or num_tokens != end // size * size:
            return blocks, num_tokens
        owner = next(filter(self._has_computed(end), self._alike(request)), None)
        if owner is None:
            return blocks, num_tokens
        block = self._cache.get_blocks(owner.request_id).blocks[0][end // size]
        return self._cache.create_kv_cache_blocks(([*blocks.blocks[0], block],)), end

    def must_wait(self, request: Any) -> bool:
        """Whether another request is just computing what this one needs.

        Each request waits for one other at most: where that one ends with its prompt's step, or before, twenty that
        wait would be computed one after the other. Nobody waits for a request that is sure to end so.
        """
        if request.num_computed_tokens > 0 or not self._may_share(request):
            return False
        alike = self._alike(request)
        if any(map(self._has_computed(request.num_tokens - 1), alike)):
            return False
        first = next((other.request_id for other in alike if other.max_tokens > 1), None)
        if not hasattr(request, _WAITS_FOR) and first is not None:
            setattr(request, _WAITS_FOR, first)
        return first is not None and getattr(request, _WAITS_FOR) == first

    def _may_share(self, request: Any) -> bool:
        if not self._is_possible or not self._cache.prefix_cache_lookup_enabled(request):
            return False
        params = request.sampling_params
        is_limited = params is not None and LIMIT in (params.extra_args or {})
        return not is_limited and (request.num_tokens - 1) % self._scheduler.block_size > 0

    def _alike(self, request: Any) -> list[Any]:
        """Running requests that begin with all of this one's tokens but the last.

        By vLLM's own rule for what whole blocks are shared: their hash, which holds that of all before them, and what
        else tells blocks apart (adapter, images; the salt stands in the first block's).
        """
        end, size = request.num_tokens - 1, self._scheduler.block_size
        num_whole = end // size
        start, before = num_whole * size, _hash(request, num_whole)
        tail = _tail(request, start, end)
        return [
            other
            for other in self._scheduler.running
            if other.num_tokens >= end and _hash(other, num_whole) == before and _tail(other, start, end) == tail
        ]

    def _has_computed(self, num_tokens: int) -> Callable[[Any], bool]:
        admitted = self._looked_up()
        return lambda other: other.num_computed_tokens >= num_tokens and other.request_id not in admitted

    def _looked_up(self) -> set[str]:
        if self._step != self._scheduler.current_step:
            self._step, self._admitted = self._scheduler.current_step, set()
        return self._admitted


def _hash(request: Any, num_blocks: int) -> Any:
    return request.block_hashes[num_blocks - 1] if num_blocks else None


def _tail(request: Any, start: int, end: int) -> tuple[Any, ...]:
    from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys

    return request.all_token_ids[start:end], generate_block_hash_extra_keys(request, start, end, 0)[0]


def _has_full_attention_only(scheduler: Any) -> bool:
    """Whether a block is all that its tokens have: one group of layers, no draft of several tokens, no connector."""
    from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager

    cache = scheduler.kv_cache_manager
    managers = cache.coordinator.single_type_managers
    return bool(
        cache.enable_caching
        and scheduler.connector is None
        and scheduler.num_spec_tokens == 0
        and [type(manager) for manager in managers] == [FullAttentionManager]
        and managers[0].block_size == scheduler.block_size == scheduler.hash_block_size
        and managers[0].kv_cache_spec.block_size == scheduler.block_size
    )
