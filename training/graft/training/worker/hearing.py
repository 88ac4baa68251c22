"""What a training's loop tells of its steps, to the server through `Tell`; and where it waits when it is asked to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.folder.record import TrainedRecord
from graft.training.job.export import put_in_place
from graft.training.loop.checkpoint import complete_checkpoints, step_of
from graft.training.loop.progress import read_metrics
from graft.training.loop.run import Run
from graft.training.objective.preference.pairs import METRICS as PAIR_METRICS
from graft.training.objective.reinforce.policy import MISMATCH
from graft.training.worker.folder import JobFolder
from graft.training.worker.tell import Tell

_NAMES = {
    "loss": "train_loss",
    "token_accuracy": "train_mean_token_accuracy",
    "reward": "train_mean_reward",
    "validation_loss": "valid_loss",
    "validation_reward": "valid_mean_reward",
    "validation_token_accuracy": "valid_mean_token_accuracy",
    "accuracy": "train_pair_accuracy",
    "validation_accuracy": "valid_pair_accuracy",
}
"""Ours, as OpenAI calls them where it has them."""
_OWN = (*PAIR_METRICS, "reward_std", "kl", "kl_per_answer", "entropy", MISMATCH)
"""What OpenAI has no names for, and says how pairs and rounds learn: it keeps ours."""
_WHOLE = {
    "valid_loss": "full_valid_loss",
    "valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
    "valid_mean_reward": "full_valid_mean_reward",
}
"""We measure on the whole file always: the two are one."""
_SAID = {
    "training loss": "train_loss",
    "validation loss": "valid_loss",
    "training reward": "train_mean_reward",
    "validation reward": "valid_mean_reward",
    "pairs the right way round": "train_pair_accuracy",
    "divergence": "kl_per_answer",
}
_LOOK_SECONDS, _MAX_HOLD_SECONDS = 0.1, 600.0
"""Processes that wait for each other wait longer than this for nobody."""


def openai_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """A step's figures of learning: under OpenAI's names where it has one, and else under our own."""
    known = {name: value for name, value in metrics.items() if value is not None}
    names = {**_NAMES, **{name: name for name in _OWN}}
    found = {names[name]: known[name] for name in names if name in known}
    return found | {whole: found[part] for part, whole in _WHOLE.items() if part in found}


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """Makes the listener of a run. It can be pickled."""

    tell: Tell
    folder: Path
    versions: Path
    hold: Path
    record: TrainedRecord
    """What stands beside the weights of each checkpoint that is pushed."""
    told_step: int
    """Up to this step the server has heard of metrics."""
    told_checkpoint: int
    """Up to this step checkpoints are known."""

    @classmethod
    def of(cls, job: JobFolder, tell: Tell, record: TrainedRecord) -> Hearing:
        return cls(
            tell=tell,
            folder=job.work,
            versions=job.versions,
            hold=job.hold,
            record=record,
            told_step=job.told_step,
            told_checkpoint=job.checkpoint_step,
        )

    def __call__(self, run: Run) -> Teller:
        return Teller(self, run)


class Teller:
    """A listener of a run: tells each step, and each checkpoint that a user may want as soon as it is whole."""

    def __init__(self, hearing: Hearing, run: Run) -> None:
        self._hearing, self._num_steps, self._every = hearing, run.schedule.num_steps, run.checkpoint_steps
        self._rate, self._schedule = run.learning_rate, run.schedule
        start, metrics = run.step.number, hearing.folder / "metrics.jsonl"
        rows = read_metrics(hearing.folder) if metrics.exists() else []
        self._tokens = sum(int(row["tokens"]) for row in rows if row["step"] < start)
        self._begun, self._start = time.monotonic(), start
        self._told_checkpoint = hearing.told_checkpoint
        # What a lost worker has taken and not told: it is behind a checkpoint, and nobody takes it again.
        for row in rows:
            if hearing.told_step <= row["step"] < start:
                self._tell_step(row["step"], row)
        for step in _steps_of(hearing.versions):
            self._tell_version(step)
        self._take_checkpoints()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        done, tell = step + 1, self._hearing.tell
        self._tokens += int(metrics["tokens"])
        self._tell_step(step, metrics)
        seconds = (time.monotonic() - self._begun) / (done - self._start) * (self._num_steps - done)
        tell.progress(done, num_steps=self._num_steps, trained_tokens=self._tokens, remaining_seconds=round(seconds, 1))
        self._take_checkpoints()
        self._wait()

    def close(self) -> None:
        """The last checkpoint is whole by now."""
        self._take_checkpoints()

    def _tell_step(self, step: int, metrics: Mapping[str, float | None]) -> None:
        found = openai_metrics(metrics)
        told = ", ".join(f"{said}={found[name]:.4f}" for said, name in _SAID.items() if name in found)
        values = {**found, "learning_rate": self._rate * self._schedule(step), "total_steps": self._num_steps}
        self._hearing.tell.metrics(step + 1, values, message=f"Step {step + 1}/{self._num_steps}: {told}")

    def _take_checkpoints(self) -> None:
        """Those that are due: where a training was stopped is nobody's model, and the last is what comes out."""
        hearing = self._hearing
        for path in complete_checkpoints(hearing.folder):
            step = step_of(path)
            is_due = bool(self._every) and step % int(self._every or 1) == 0 and step < self._num_steps
            if is_due and step > self._told_checkpoint:
                put_in_place(hearing.versions / f"step-{step}", lambda folder, path=path: self._fill(path, folder))  # type: ignore[misc]
                self._tell_version(step)

    def _fill(self, checkpoint: Path, folder: Path) -> None:
        for path in checkpoint.iterdir():
            if path.is_file() and path.name.startswith(("adapter_", "chat_template")):
                _linked(path, folder / path.name)
        self._hearing.record.write(folder)

    def _tell_version(self, step: int) -> None:
        if step <= self._told_checkpoint:
            return
        rows = [row for row in read_metrics(self._hearing.folder) if row["step"] == step - 1]
        metrics = {"step": float(step), **(openai_metrics(rows[-1]) if rows else {})}
        self._hearing.tell.checkpoint(step, self._hearing.versions / f"step-{step}", metrics)
        self._told_checkpoint = step

    def _wait(self) -> None:
        end = time.monotonic() + _MAX_HOLD_SECONDS
        while self._hearing.hold.exists() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)


def _steps_of(versions: Path) -> list[int]:
    found = [path.name.removeprefix("step-") for path in versions.glob("step-*")]
    return sorted(int(one) for one in found if one.isdigit())


def _linked(path: Path, target: Path) -> None:
    """The checkpoint goes later; its file's bytes are written once, and stay."""
    try:
        os.link(path, target)
    except OSError:  # a disk without links
        shutil.copy2(path, target)
