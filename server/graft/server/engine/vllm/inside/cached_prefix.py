"""Log-probabilities of a prompt's end, with its beginning out of the prefix cache.

vLLM lets a request for its prompt's log-probabilities skip the cache, since a position that is read from the cache has
none (`SamplingParams.skip_reading_prefix_cache`). Where only the end is wanted, the cache may be read up to there. vLLM
reads up to the prompt's last token but one, so the limit is brought by the request and kept in the engine's process.
"""

from __future__ import annotations

from typing import Any

LIMIT = "graft_cached_at_most"
"""Key of `SamplingParams.extra_args`: how many of the prompt's tokens may be read from the cache."""


class LimitedRequest:
    """A request as the cache's manager reads it, shorter: the manager leaves the last of `num_tokens` uncached."""

    def __init__(self, request: Any, limit: int) -> None:
        self._request = request
        self.num_tokens = min(request.num_tokens, limit + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def limit_reads() -> None:
    """Make the engine's process keep `LIMIT`. May run several times in a process.

    Whether it is kept is seen in every answer (`RequestOutput.num_cached_tokens`).
    """
    from vllm.v1.core.kv_cache_manager import KVCacheManager

    found = KVCacheManager.get_computed_blocks
    if getattr(found, "keeps_limit", False):
        return

    def get_computed_blocks(manager: KVCacheManager, request: Any) -> Any:
        limit = _limit_of(request)
        return found(manager, request if limit is None else LimitedRequest(request, limit))

    get_computed_blocks.keeps_limit = True  # type: ignore[attr-defined]
    KVCacheManager.get_computed_blocks = get_computed_blocks


def _limit_of(request: Any) -> int | None:
    params = request.sampling_params
    return None if params is None or not params.extra_args else params.extra_args.get(LIMIT)
