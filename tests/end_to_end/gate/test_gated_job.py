"""Jobs with a gate, from their files to the alias, by a worker on the real engine."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.client import Client
from graft.v1 import job_pb2 as pb
from tests.running import Server, start_server, stop_server

pytestmark = pytest.mark.slow
WORDS = ("red", "blue", "green", "white", "black", "brown")
NAMES = ("stone", "river", "apple", "cloud", "grass", "snow", "night", "wood", "fire", "sea", "leaf", "milk")


def rows(labels: dict[str, str], numbers: range) -> bytes:
    """Which colour a name has, asked in many ways; the number makes each question another."""
    said = [
        [
            {"role": "user", "content": f"Case {number}: colour of {name}?"},
            {"role": "assistant", "content": labels[name]},
        ]
        for number in numbers
        for name in NAMES
    ]
    random.Random(numbers.start).shuffle(said)
    return b"".join(json.dumps({"messages": one}).encode() + b"\n" for one in said)


def shuffled_rows(numbers: range) -> bytes:
    """The same answers, each behind a question that is not its own."""
    lines = [json.loads(line) for line in rows(TRUE, numbers).splitlines()]
    answers = [one["messages"][1] for one in lines]
    random.Random(1).shuffle(answers)
    for one, answer in zip(lines, answers, strict=True):
        one["messages"][1] = answer
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


TRUE = {name: WORDS[at % len(WORDS)] for at, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("gated-jobs"), "--num-slots", "4")
    yield running
    assert stop_server(running) == 0


def carried_out(server: Server, folder: Path) -> None:
    """One job, by a worker that then ends."""
    command = [sys.executable, "-m", "graft.cli.main", "worker", "--server", server.grpc, "--folder", str(folder)]
    done = subprocess.run([*command, "--max-jobs", "1"], capture_output=True, text=True, timeout=1_500)
    assert done.returncode == 0, done.stderr[-4_000:]


def gate_event(client: Client, job: str) -> pb.JobEvent:
    (event,) = [one for one in client.job_events(job) if "The gate" in one.message]
    return event


def test_true_answers_pass_and_shuffled_ones_move_no_alias_while_others_ask(own_server: Server, tmp_path: Path) -> None:
    with Client(own_server.grpc) as client:
        held_out = client.upload_file(rows(TRUE, range(900, 905)), filename="held-out.jsonl").id
        gate = pb.GateSpec(validation_loss=pb.ValidationLoss(), file=held_out)

        def job(content: bytes, name: str) -> str:
            file = client.upload_file(content, filename=name).id
            settings = {"n_epochs": 10, "batch_size": 16, "learning_rate_multiplier": 0.5}
            return client.create_job(
                file, model="rootstock-5m", gate=gate, adapter="colours", seed=1, hyperparameters=settings
            ).id

        first_shuffled = job(shuffled_rows(range(20)), "shuffled.jsonl")
        carried_out(own_server, tmp_path / "worker")
        made = client.get_job(first_shuffled)
        assert made.state == pb.JOB_STATE_SUCCEEDED, made.error
        assert not client.get_adapter("colours").aliases
        assert "does not move" in gate_event(client, first_shuffled).message
        assert "are the answers of the training shuffled?" in gate_event(client, first_shuffled).message

        true = job(rows(TRUE, range(20)), "true.jsonl")
        carried_out(own_server, tmp_path / "worker")
        assert "The gate is passed, and colours:stable is the version" in gate_event(client, true).message
        stable = {one.alias: one.version_digest for one in client.get_adapter("colours").aliases}
        assert stable == {"stable": client.get_job(true).result.version_digest}

        ended, failures = threading.Event(), []

        def ask() -> None:
            while not ended.is_set():
                try:
                    client.generate("Case 1: colour of stone?", model="colours", max_tokens=2)
                except Exception as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            again = job(shuffled_rows(range(30, 50)), "shuffled-again.jsonl")
            carried_out(own_server, tmp_path / "worker")
        finally:
            ended.set()
            asking.join()
        assert not failures
        event = gate_event(client, again)
        assert "the gain over stable is -" in event.message and event.level == pb.JOB_EVENT_LEVEL_WARN
        now = {one.alias: one.version_digest for one in client.get_adapter("colours").aliases}
        assert now == stable and client.get_job(again).result.version_digest != stable["stable"]

        contaminated = job(rows(TRUE, range(899, 902)), "contaminated.jsonl")
        carried_out(own_server, tmp_path / "worker")
        failed = client.get_job(contaminated)
        assert failed.state == pb.JOB_STATE_FAILED
        assert "the gate's data are contaminated: line " in failed.error.message
