"""Real trainings by `graft worker` on a tiny base: whatever is killed, the weights are the same to the last bit."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.v1 import job_pb2 as pb
from tests.training.worker.killing.running import Machine, User, kill_with_children, machine, until

ROWS = [
    {"messages": [{"role": "user", "content": f"{word}?"}, {"role": "assistant", "content": word.upper()}]}
    for word in ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")
]
NUM_POINTS, NUM_EPOCHS, STEPS_PER_EPOCH = 20, 60, 4
DONE = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED)


@pytest.fixture
def running(tmp_path: Path, tiny_base: Path) -> Iterator[Machine]:
    with machine(tmp_path, tiny_base, worker_silence_seconds=2.0) as made:
        made.start_server()
        yield made


@pytest.fixture
def user(running: Machine) -> Iterator[User]:
    with User(running.target) as made:
        yield made


def made(user: User) -> str:
    text = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    spec = pb.JobSpec()
    spec.hyperparameters.update({"n_epochs": NUM_EPOCHS, "batch_size": len(ROWS) // STEPS_PER_EPOCH})
    return user.made(text, model="seedling", hyperparameters=spec.hyperparameters)


def start(running: Machine, name: str) -> object:
    folder, base = str(running.folder / "jobs"), str(running.base)
    return running.start_command(
        name, "worker", "--server", running.target, "--folder", folder, "--name", name, "--training-base", base
    )


def weights(user: User, job: str) -> str:
    """Digest of the file that the finished job's version has them in."""
    done = user.reached(job, *DONE, seconds=900)
    assert done.state == pb.JOB_STATE_SUCCEEDED, [one.message for one in user.events(job)][-3:]
    version = user.get_version(done.adapter, done.result.version_digest).version
    assert version.lineage.job == job and version.lineage.seed == 3
    return next(one.sha256 for one in version.files if one.name == "adapter_model.safetensors")


def figures(user: User, job: str) -> list[tuple[float, float]]:
    return [(one.data["step"], one.data["train_loss"]) for one in user.events(job) if one.is_metrics]


@pytest.mark.slow
def test_killed_at_twenty_points_the_weights_are_the_same(running: Machine, user: User) -> None:
    """-9 for the worker with its child, at seeded points: while Python starts, while steps are taken, while a
    checkpoint is written, pushed or told. Another worker goes on each time.
    """
    num_steps, chance = NUM_EPOCHS * STEPS_PER_EPOCH, random.Random(20)
    undisturbed = made(user)
    worker = start(running, "calm")
    expected = weights(user, undisturbed)
    kill_with_children(worker)  # type: ignore[arg-type]

    job = made(user)
    points = sorted(chance.sample(range(1, num_steps), NUM_POINTS))
    for number, step in enumerate(points):
        worker = start(running, f"w{number % 2}")
        # Every fourth dies before it has taken a step that nobody took: three that get no further fail the job.
        if number % 4 != 3:
            until(lambda step=step: user.job(job).progress.step >= step)  # type: ignore[misc]
        else:
            until(lambda: user.job(job).state == pb.JOB_STATE_RUNNING)
        time.sleep(chance.random() * 0.3)
        kill_with_children(worker)  # type: ignore[arg-type]
    start(running, "last")
    assert weights(user, job) == expected
    told = figures(user, job)
    assert told == figures(user, undisturbed) and [step for step, _ in told] == list(range(1, num_steps + 1))
    assert user.checkpoints(job) == list(range(STEPS_PER_EPOCH, num_steps + 1, STEPS_PER_EPOCH))
