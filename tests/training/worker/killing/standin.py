"""`python -m tests.training.worker.killing.standin ATTEMPT`: a training of a chain of digests, which takes no torch.

It has what the worker relies on in a real one: checkpoints in the job's folder, from the newest of which it goes on,
SIGTERM, behind which it saves, the lease, and `Tell`. Its weights are those of its last digest, whoever took a step.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from graft.adapters.adapter import Lineage
from graft.adapters.folder.record import TrainedRecord
from graft.training.worker.child import keep_the_lease
from graft.training.worker.folder import JobFolder
from graft.training.worker.lease import unmoved
from graft.training.worker.tell import FILE, Tell
from graft.training.worker.trained import Failed, Trained
from tests.adapters.making import make_adapter

NUM_STEPS, EVERY = 40, 10
ALLOWED = "allowed"
SPANS = "GRAFT_TEST_SPANS"
"""A folder that stays when the job's goes: for each attempt a file of when each of its steps was taken."""
asked: list[int] = []


def main(attempt: Path) -> int:
    keep_the_lease(attempt.parent / "hold")
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    job, tell = JobFolder.read(attempt), Tell(path=attempt / FILE)
    if "fail" in job.spec.suffix:
        Failed(code="invalid_settings", message="it fails as it was told to").write(attempt)
        return 2
    job.work.mkdir(exist_ok=True)
    num_steps = 1 if "short" in job.spec.suffix else NUM_STEPS
    found = sorted(job.work.glob("checkpoint-*"), key=_step_of)
    step, state = (_step_of(found[-1]), found[-1].read_text()) if found else (0, job.training_file.read_text())
    for taken in range(1, step + 1):  # a lost worker's, of which nobody may have heard
        tell.metrics(taken, {"train_loss": loss_after(taken)}, message=f"Step {taken}")
    tell.resolved({"n_epochs": NUM_STEPS // EVERY, "batch_size": 1, "learning_rate_multiplier": 1.0})
    for told in sorted(job.versions.glob("step-*"), key=_step_of):
        tell.checkpoint(_step_of(told), told, {"train_loss": loss_after(_step_of(told))})
    while step < num_steps:
        while step >= _allowed(job) and not asked:
            time.sleep(0.01)
        if asked:
            _save(job, step, state, tell, is_due=step > 0 and step % EVERY == 0)
            return 143
        state, step = hashlib.sha256(state.encode()).hexdigest(), step + 1
        with (Path(os.environ[SPANS]) / f"{job.id}.{job.fence}").open("a") as file:
            file.write(f"{unmoved()}\n")
        tell.metrics(step, {"train_loss": loss_after(step)}, message=f"Step {step}")
        tell.progress(step, num_steps=num_steps, trained_tokens=step)
        if step % EVERY == 0 or asked:
            _save(job, step, state, tell, is_due=step % EVERY == 0)
        while job.hold.exists() and not asked:
            time.sleep(0.01)
        if asked:
            return 143
    made = job.work / "adapter"
    if not made.exists():
        _write(made, state, job)
    Trained(adapter=made, num_steps=step, trained_tokens=step, metrics={"train_loss": loss_after(step)}).write(attempt)
    return 0


def loss_after(step: int) -> float:
    return 1 / step


def expected_state(rows: str) -> str:
    for _ in range(NUM_STEPS):
        rows = hashlib.sha256(rows.encode()).hexdigest()
    return rows


def _allowed(job: JobFolder) -> int:
    """The test lets it take so many steps, by a file beside all jobs; all, where it has said nothing."""
    try:
        return int((job.path.parents[2] / ALLOWED).read_text() or 0)
    except OSError:
        return NUM_STEPS


def _save(job: JobFolder, step: int, state: str, tell: Tell, *, is_due: bool) -> None:
    draft = job.work / f".checkpoint-{step}"
    draft.write_text(state)
    draft.rename(job.work / f"checkpoint-{step}")
    if is_due and step < NUM_STEPS:
        folder = job.versions / f"step-{step}"
        if not folder.exists():
            job.versions.mkdir(exist_ok=True)
            _write(folder, state, job)
        tell.checkpoint(step, folder, {"train_loss": loss_after(step)})


def _write(folder: Path, state: str, job: JobFolder) -> None:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    make_adapter(draft, seed=int(state[:8], 16))
    lineage = Lineage(job=job.id, data_digest=None, code_version=None, seed=job.spec.seed)
    TrainedRecord(base=job.read_base().identity, form=job.form, lineage=lineage).write(draft)
    draft.rename(folder)


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
