"""Checkpoints of a run: ``checkpoint-N/`` with whatever resuming needs, the completion marker written last.

Tensors are stored sharded, by torch's distributed checkpoint: whatever mesh wrote them, any other can read them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from graft.training.errors import CheckpointError, first_line
from graft.training.loop.staging import Staging
from graft.training.parallel.layout import Alone, Layout
from graft.training.runtime.device import taking_device
from graft.training.runtime.disk import cause, remove, written
from graft.training.settings.settings import TrainingSettings

_log = logging.getLogger(__name__)

MARKER = "COMPLETE"
TENSORS = "state"
VALUES = "state.json"
REMEDY = "Remove it to go on from the one before it."
_STEP = re.compile(r"checkpoint-\d+")
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, dcp.CheckpointException)

WriteFiles = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Which checkpoints stay when a new one is there."""

    newest: int = 2
    """So many."""
    every: int | None = None
    """And those after a multiple of so many steps, for ever."""
    milestone: int = 0
    """And the newest of those up to this step."""

    @classmethod
    def of(cls, settings: TrainingSettings) -> Keeping:
        return cls(newest=settings.save_total_limit, every=settings.keep_every)

    def superfluous(self, steps: Sequence[int], kept: int | None = None) -> list[int]:
        """Of checkpoints after so many steps each, in rising order, those that go; ``kept`` is another that stays."""
        before = [step for step in steps if step <= self.milestone]
        staying = {*steps[-self.newest :], *before[-1:], kept}
        return [step for step in steps if step not in staying and not (self.every and step % self.every == 0)]


class CheckpointWriter:
    """Writes checkpoints of one folder while the training goes on: tensors are copied, a thread stores the copies.

    Every process has one and calls the same at the same time.
    """

    def __init__(self, folder: Path, *, layout: Layout | None = None, keeping: Keeping | None = None) -> None:
        self._folder, self._keeping = folder, keeping or Keeping()
        self._layout = layout or Alone()
        self._staging = Staging()
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="checkpoint", initializer=taking_device(self._layout.device)
        )
        # Of its own, so that what the thread exchanges does not meet what the training does.
        self._group = None if self._layout.is_alone else dist.new_group(backend="gloo")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.wait()
            elif self._pending is not None:  # the others may not come to a meeting any more
                self._pending.result()
        except (CheckpointError, OSError) as failure:
            if kind is None:
                raise
            _log.warning("behind the error that ends the run: %s", failure)
        finally:
            self._thread.shutdown()

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        values: Mapping[str, Any],
        *,
        write_files: WriteFiles | None = None,
        kept: int | None = None,
    ) -> None:
        """Begins ``checkpoint-<step>`` beside its final place, where it appears whole; then older ones go.

        ``kept`` is the step of one that stays.

        ``tensors`` are this process's part, ``values`` what JSON can hold. ``write_files`` adds the model in its own
        format, at once. Raises ``CheckpointError`` where this one or the one before it cannot be written, for example
        on a full disk; earlier ones are as they were.
        """
        self.wait()
        target = self._folder / f"checkpoint-{step}"
        draft = self._folder / f".{target.name}"
        with _written(target, draft):
            if self._layout.is_first:
                remove(draft)
                draft.mkdir(parents=True)
        self._layout.wait()
        with _written(target, draft):
            if write_files is not None:
                write_files(draft)
        copies, are_whole = self._staging.copies(tensors)
        self._pending = self._thread.submit(self._store, target, draft, copies, dict(values), are_whole, kept)

    def wait(self) -> None:
        """Until what was begun is there. Raises ``CheckpointError``."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
            self._layout.wait()

    def _store(
        self,
        target: Path,
        draft: Path,
        tensors: dict[str, Tensor],
        values: dict[str, Any],
        are_whole: Callable[[], None],
        kept: int | None,
    ) -> None:
        are_whole()
        with _written(target, draft), _alone_without_a_word():
            # Looking ahead, the writer would wait for the training's stream again and again. The copies are here.
            writer = dcp.FileSystemWriter(draft / TENSORS, per_thread_copy_ahead=0)
            dcp.save(tensors, storage_writer=writer, process_group=self._group, no_dist=self._layout.is_alone)
            if self._layout.is_first:  # which returns when all have written
                (draft / VALUES).write_text(json.dumps(values), encoding="utf-8")
                (draft / MARKER).touch()
                if target.exists():
                    _forget(target)
                draft.rename(target)
                found = complete_checkpoints(self._folder)
                for old in self._keeping.superfluous([step_of(one) for one in found], kept):
                    _forget(self._folder / f"checkpoint-{old}")


def _written(target: Path, draft: Path) -> contextlib.AbstractContextManager[None]:
    return written(target, draft=draft, kind=CheckpointError, what_stays="the checkpoints before it stay")


def _forget(path: Path) -> None:
    """Removes a checkpoint. One that cannot be removed is no reason to end a training, but it is no checkpoint then."""
    try:
        (path / MARKER).unlink(missing_ok=True)  # first: half of a checkpoint must not look like one
        shutil.rmtree(path)
    except OSError as error:
        _log.warning("%s is no longer needed and cannot be removed: %s", path, error.strerror or error)


@contextlib.contextmanager
def _alone_without_a_word() -> Iterator[None]:
    """torch warns whenever one process saves by itself, though it was told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def complete_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a folder, oldest step first."""
    found = [path for path in folder.glob("checkpoint-*") if _STEP.fullmatch(path.name) and (path / MARKER).exists()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Steps that were done when a checkpoint was written."""
    return int(path.name.removeprefix("checkpoint-"))


def checkpoint_values(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint. Raises ``CheckpointError`` where it is missing or was not finished."""
    if not (path / MARKER).exists():
        raise CheckpointError(
            f"{path} is no finished checkpoint: it has no {MARKER} file. Choose another or start anew."
        )
    try:
        values: dict[str, Any] = json.loads((path / VALUES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or of an earlier version of Graft: {error}. {REMEDY}") from None
    if not isinstance(values, dict) or "step" not in values:
        raise CheckpointError(f"{path} is damaged: {VALUES} holds no step. {REMEDY}")
    return values


def stored_tensors(path: Path) -> dict[str, TensorStorageMetadata]:
    """What a checkpoint holds, by name. Raises ``CheckpointError`` where it cannot be read."""
    try:
        metadata = dcp.FileSystemReader(path / TENSORS).read_metadata()
    except Exception as error:  # what damaged bytes unpickle to may fail in any way
        raise CheckpointError(f"{path} is damaged: {first_line(error)}. {REMEDY}") from None
    return {name: one for name, one in metadata.state_dict_metadata.items() if isinstance(one, TensorStorageMetadata)}


def load_tensors(path: Path, into: Mapping[str, Tensor], *, layout: Layout | None = None) -> None:
    """Fills tensors in place, each process its part. Raises ``CheckpointError`` where one does not fit."""
    try:
        with _alone_without_a_word():
            dcp.load(dict(into), checkpoint_id=path / TENSORS, no_dist=(layout or Alone()).is_alone)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is damaged, or of another model: {first_line(cause(error))}. {REMEDY}"
        ) from error


def forget_checkpoints_after(folder: Path, step: int) -> None:
    """Removes those that were written after more steps."""
    for path in complete_checkpoints(folder):
        if step_of(path) > step:
            _forget(path)


def forget_halves(folder: Path) -> None:
    """Removes what an ended process left of checkpoints that it was writing or removing."""
    whole = complete_checkpoints(folder)
    for path in folder.glob("*checkpoint-*"):
        if path not in whole and _STEP.fullmatch(path.name.removeprefix(".")):
            _forget(path)
