"""A job ends as if nothing had happened, whatever is killed meanwhile. Its training is a stand-in that takes no torch:
that a real one goes on bit by bit from its newest checkpoint, `test_real_trainings.py` shows.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.v1 import job_pb2 as pb
from tests.adapters.making import make_adapter, make_base
from tests.running import assert_gone, children_of
from tests.training.worker.killing.running import Machine, User, kill, kill_with_children, machine, until
from tests.training.worker.killing.standin import EVERY, NUM_STEPS, expected_state, loss_after

pytestmark = pytest.mark.slow  # a minute of processor time, and many where others compute

ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
ROWS = json.dumps(ROW) + "\n"
SILENCE = 5.0
DONE = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "tiny").path


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine"), base, worker_silence_seconds=SILENCE) as made:
        made.start_server()
        yield made


@pytest.fixture
def running(machines: Machine) -> Iterator[Machine]:
    yield machines
    machines.end_workers()


@pytest.fixture
def user(running: Machine) -> Iterator[User]:
    with User(running.target) as made:
        yield made


def check(user: User, running: Machine, job: str) -> None:
    """Nothing is lost, nothing is told twice, and the weights are those of a job that nobody disturbed."""
    done = user.reached(job, *DONE)
    events = user.events(job)
    assert done.state == pb.JOB_STATE_SUCCEEDED, [one.message for one in events]
    assert [one.number for one in events] == list(range(1, len(events) + 1))
    told = [(int(one.data["step"]), one.data["train_loss"]) for one in events if one.is_metrics]
    assert told == [(step, loss_after(step)) for step in range(1, NUM_STEPS + 1)]
    assert user.checkpoints(job) == list(range(EVERY, NUM_STEPS + 1, EVERY))
    assert done.resolved_hyperparameters["n_epochs"] == NUM_STEPS / EVERY
    version = user.get_version(done.adapter, done.result.version_digest).version
    (weights,) = [one.sha256 for one in version.files if one.name == "adapter_model.safetensors"]
    expected = make_adapter(running.folder / job, seed=int(expected_state(ROWS)[:8], 16)) / "adapter_model.safetensors"
    assert weights.removeprefix("sha256:") == hashlib.sha256(expected.read_bytes()).hexdigest()
    adapter = user.get_adapter(done.adapter)
    assert [one.version_digest for one in adapter.aliases] == [done.result.version_digest]


def test_worker_and_server_are_killed(running: Machine, user: User) -> None:
    """-9 at seeded points: the worker with its child, the server, the worker alone; and what a worker has taken and not
    told is told by the next.
    """
    points = sorted(random.Random(16).sample(range(2, NUM_STEPS - 2), 4))
    job = user.made(ROWS.encode(), model="tiny")
    running.allow(points[0])
    worker = running.start_worker("one")
    until(lambda: user.job(job).progress.step >= points[0])
    kill(worker.pid, signal.SIGSTOP)  # it reports no more
    running.allow(points[1])
    (span,) = running.spans(job)
    until(lambda: len(span.read_text().splitlines()) >= points[1])
    kill_with_children(worker)
    second = running.start_worker("two")
    running.allow(points[2])
    until(lambda: user.job(job).progress.step >= points[2])
    assert running.server is not None
    running.server.kill()
    running.server.wait()
    running.allow(points[3])
    running.start_server()
    until(lambda: user.job(job).progress.step >= points[3])
    kill(second.pid)
    running.allow(NUM_STEPS)
    running.start_worker("two")  # goes on with its own job
    check(user, running, job)


def test_signals_give_the_job_back(running: Machine, user: User) -> None:
    """SIGTERM and SIGINT save where the training is; a pause does, too."""
    job = user.made(ROWS.encode(), model="tiny")
    running.allow(3)
    worker = running.start_worker("one")
    until(lambda: user.job(job).progress.step == 3)
    user.asked(pb.PauseJobRequest(job=job), pb.PauseJobResponse)
    user.reached(job, pb.JOB_STATE_PAUSED)
    assert (running.folder / "jobs/jobs" / job / "work/checkpoint-3").exists()
    user.asked(pb.ResumeJobRequest(job=job), pb.ResumeJobResponse)
    for step, number in ((7, signal.SIGTERM), (12, signal.SIGINT)):
        running.allow(step)
        until(lambda step=step: user.job(job).progress.step == step)  # type: ignore[misc]
        kill(worker.pid, number)
        assert worker.wait(60) == 0
        assert user.job(job).state == pb.JOB_STATE_QUEUED
        worker = running.start_worker("one")
    running.allow(NUM_STEPS)
    check(user, running, job)


def test_what_fails_says_why_and_what_is_cancelled_ends(running: Machine, user: User) -> None:
    failing = user.made(ROWS.encode(), model="tiny", suffix="fail")
    running.start_worker("one")
    failed = user.reached(failing, *DONE)
    assert (failed.error.code, failed.error.message) == ("invalid_settings", "it fails as it was told to")
    running.allow(2)
    job = user.made(ROWS.encode(), model="tiny")
    until(lambda: user.job(job).progress.step >= 2)
    user.asked(pb.CancelJobRequest(job=job), pb.CancelJobResponse)
    later = user.made(ROWS.encode(), model="tiny")
    user.reached(later, pb.JOB_STATE_RUNNING)
    assert user.job(job).state == pb.JOB_STATE_CANCELLED
    user.asked(pb.CancelJobRequest(job=later), pb.CancelJobResponse)


def test_two_workers_never_have_one_job(running: Machine, user: User) -> None:
    """F16. The wall clocks of server and workers move by an hour at every look. The first worker is stopped, so that it
    cannot end its training, which ends by itself before the second begins; when the worker goes on, it lets the job go.
    """
    job = user.made(ROWS.encode(), model="tiny")
    running.allow(3)
    first = running.start_worker("one", folder="here")
    until(lambda: user.job(job).progress.step >= 3)
    children = children_of(first.pid)
    kill(first.pid, signal.SIGSTOP)
    running.allow(9)
    running.start_worker("two", folder="elsewhere")  # sees nothing of the first one's files
    until(lambda: len(running.spans(job)) == 2)
    assert_gone(children)
    kill(first.pid, signal.SIGCONT)
    until(lambda: b"lost" in (running.folder / "one.log").read_bytes())
    running.allow(NUM_STEPS)
    check(user, running, job)
    spans = [sorted(map(float, path.read_text().split())) for path in running.spans(job)]
    assert len(spans) == 2, "each worker trained"
    assert spans[0][-1] < spans[1][0]
