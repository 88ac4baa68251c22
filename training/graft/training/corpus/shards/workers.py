"""Shards made one after the other here, or by several processes at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from graft.training.corpus.shards.pieces import Piece
from graft.training.corpus.shards.shard_writer import Speller, Written, written_shard
from graft.training.errors import TrainingError

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Task:
    """A shard to be made."""

    stem: Path
    piece: Piece
    key: Mapping[str, Any]


def each(
    tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase, end_id: int, num: int, report: Callable[[int], object]
) -> list[Written]:
    """The shards of all tasks. ``report`` hears how many bytes of text are done. Raises what a task raises, and
    ``TrainingError`` where the system ended a process.
    """
    if min(num, len(tasks)) <= 1:
        speller, tally = Speller(tokenizer, end_id), _Here(report)
        return [written_shard(one.stem, one.piece, one.key, speller, tally) for one in tasks]
    # Spawned: what this process has begun, such as threads and meetings with other processes, is not for them.
    context = multiprocessing.get_context("spawn")
    shared = context.Array("q", [0, 0])
    with ProcessPoolExecutor(
        min(num, len(tasks)), mp_context=context, initializer=_begin, initargs=(tokenizer, end_id, shared)
    ) as pool:
        futures = [pool.submit(_work, task) for task in tasks]
        try:
            _watch(futures, lambda: report(int(shared[0])))
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise TrainingError(
                f"a process that tokenised was ended by the system, as it does where memory runs out: take fewer than "
                f"{num} with --workers; what is finished is kept."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[Written]], report: Callable[[], object]) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
        report()
        if any(one.exception() is not None for one in done):
            return


class _Here:
    """A tally of one process."""

    is_spoilt = False

    def __init__(self, report: Callable[[int], object]) -> None:
        self._report, self._num_bytes = report, 0

    def add(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._report(self._num_bytes)

    def spoil(self) -> None:
        self.is_spoilt = True


class _Shared:
    """A tally in memory that several processes share."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def add(self, num_bytes: int) -> None:
        with self._values.get_lock():
            self._values[0] += num_bytes

    @property
    def is_spoilt(self) -> bool:
        return bool(self._values[1])

    def spoil(self) -> None:
        self._values[1] = 1


_STATE: dict[str, Any] = {}
"""Of a process of the pool."""


def _begin(tokenizer: PreTrainedTokenizerBase, end_id: int, shared: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the processors already
    _STATE.update(speller=Speller(tokenizer, end_id), tally=_Shared(shared))


def _work(task: Task) -> Written:
    return written_shard(task.stem, task.piece, task.key, _STATE["speller"], _STATE["tally"])
