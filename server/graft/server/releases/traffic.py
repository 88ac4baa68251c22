"""Where the canaries meet the requests: which side answers one, and what its answer counts for. In memory only."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from graft.adapters.adapter import Alias
from graft.adapters.catalog.snapshot import Resolved
from graft.server.operations.logs import current_request_id
from graft.server.operations.metrics import Metrics
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Answer, Rollout
from graft.server.runtime.session import current_session

MOST_TOLD = 10_000
"""Answers of one canary that wait to be counted; while the database is away, what comes after them is not counted."""
_log = logging.getLogger(__name__)


def share_of(key: str, weighted: Sequence[Alias]) -> float:
    """A number in [0, 1) for a request's key, the same on every server while the weighted aliases stay.

    The key is hashed with the versions that the aliases point at, so that each canary meets other callers.
    """
    salt = "".join(f"{alias.name}={alias.version_digest}\n" for alias in weighted)
    found = hashlib.sha256(f"{salt}\n{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(found[:8]) / 2**64


def draw(weighted: Sequence[Alias]) -> float:
    """For the current request: by its session, so that one conversation or user stays on one side, else by its id."""
    return share_of(current_session() or current_request_id(), weighted)


class Traffic:
    """What the data plane tells of its answers, until it is counted. Used in the event loop."""

    def __init__(self, metrics: Metrics, is_fault: Callable[[Exception], bool]) -> None:
        """`is_fault` says whether an error is the server's own, of whatever part: the sides share all parts but the
        version.
        """
        self._metrics = metrics
        self._is_fault = is_fault
        self._rollouts: dict[tuple[str, str], Rollout] = {}
        self._open: dict[str, asyncio.Event] = {}
        self._told: dict[str, tuple[Rollout, list[Answer]]] = {}
        self._overfull: set[str] = set()
        self.has_news = asyncio.Event()

    def watch(self, rollouts: Sequence[Rollout]) -> None:
        """These are the canaries under way."""
        self._rollouts = {one.key: one for one in rollouts if one.stage is Stage.CANARY}
        self._metrics.canaries.set(len(self._rollouts))
        self._overfull &= {one.id for one in self._rollouts.values()}

    def changed(self, rollout: Rollout) -> None:
        """One of them has begun or ended."""
        others = [one for one in self._rollouts.values() if one.id != rollout.id]
        self.watch([*others, rollout])

    @contextmanager
    def watched(self, resolved: Resolved, request: str, told_error: Callable[[], Exception | None]) -> Iterator[None]:
        """Around a request: where it named an adapter that has a canary, it counts for the side that answers it.

        It counts as an error where it fails by the server's fault, or where `told_error` says that it did though its
        stream had begun. What fails by its caller's fault, or is broken off by him, does not count.
        """
        rollout = self._rollout_of(resolved)
        if rollout is None:
            yield
            return
        ended = self._open[request] = asyncio.Event()
        by_canary = resolved.version is not None and resolved.version.digest == rollout.version_digest
        try:
            yield
        except Exception as error:
            self._note(rollout, request, by_canary, error)
            raise
        else:
            self._note(rollout, request, by_canary, told_error())
        finally:
            self._open.pop(request, None)
            ended.set()

    async def ended(self, request: str) -> None:
        """Wait until a request that is under way has ended: who has read its answer may be faster than we are."""
        if request in self._open:
            await self._open[request].wait()

    def _rollout_of(self, resolved: Resolved) -> Rollout | None:
        version = resolved.version
        if version is None or not resolved.was_drawn:
            return None
        rollout = self._rollouts.get((version.tenant, version.adapter))
        is_side = rollout is not None and version.digest in (rollout.version_digest, rollout.stable_digest)
        return rollout if is_side else None

    def _note(self, rollout: Rollout, request: str, by_canary: bool, error: Exception | None) -> None:
        if error is not None and not self._is_fault(error):
            return
        answer = Answer(request=request, by_canary=by_canary, failed=error is not None)
        told = self._told.setdefault(rollout.id, (rollout, []))[1]
        if len(told) >= MOST_TOLD:
            self._warn(rollout)
            return
        told.append(answer)
        side, outcome = "canary" if by_canary else "stable", "error" if answer.failed else "ok"
        self._metrics.canary_answers.labels(side=side, outcome=outcome).inc()
        self.has_news.set()

    def take(self) -> list[tuple[Rollout, list[Answer]]]:
        """What was told since; it is the caller's now."""
        self.has_news.clear()
        told, self._told = list(self._told.values()), {}
        return told

    def put_back(self, rollout: Rollout, told: Sequence[Answer]) -> None:
        """It could not be counted yet."""
        waiting = self._told.setdefault(rollout.id, (rollout, []))[1]
        waiting[:0] = told
        if len(waiting) > MOST_TOLD:
            self._warn(rollout)
            del waiting[MOST_TOLD:]

    def _warn(self, rollout: Rollout) -> None:
        """Once for each canary."""
        if rollout.id not in self._overfull:
            self._overfull.add(rollout.id)
            _log.warning("%d answers wait to be counted for %s; further ones are dropped", MOST_TOLD, rollout.id)
