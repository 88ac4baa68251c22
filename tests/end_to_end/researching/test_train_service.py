"""`graft train-service` as its callers meet it: its own process, killed and started anew, and tinker's SDK as it is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from graft.adapters.base.base import Base
from graft.client import Client
from graft.v1 import train_pb2 as pb
from graft.v1.train_pb2_grpc import TrainServiceStub
from tests.running import STARTED, Server

pytestmark = pytest.mark.slow
IDS = [17, 44, 91, 120, 33, 250, 71]
SDK = os.environ.get("TINKER_INTERPRETER") or (sys.executable if importlib.util.find_spec("tinker") else None)
needs_sdk = pytest.mark.skipif(
    SDK is None, reason="no tinker SDK: install `tinker` beside a Python, and name that in TINKER_INTERPRETER"
)
LOOPS = Path(__file__).parent / "loops"


class Trainer:
    """A process, and where it listens."""

    def __init__(self, folder: Path, server: Server, *flags: str) -> None:
        ready, self.log = folder / "ready.json", folder / "trainer.log"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "graft.cli.main", "train-service", "--server", server.grpc, *flags]
        command += ["--work", str(folder / "work"), "--http-port", "0", "--grpc-port", "0", "--ready-file", str(ready)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        STARTED.append(self.process)
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            time.sleep(0.1)
        ports = json.loads(ready.read_text())
        self.http, self.grpc = f"http://127.0.0.1:{ports['http_port']}", f"127.0.0.1:{ports['grpc_port']}"

    def stub(self) -> TrainServiceStub:
        return TrainServiceStub(grpc.insecure_channel(self.grpc))


@contextmanager
def trainer(folder: Path, server: Server, *flags: str) -> Iterator[Trainer]:
    going = Trainer(folder, server, *flags)
    try:
        yield going
    finally:
        if going.process.poll() is None:
            going.process.send_signal(signal.SIGTERM)
            assert going.process.wait(timeout=60) == 0


def begun(stub: TrainServiceStub, *, saved: pb.SavedOrigin | None = None) -> str:
    session = stub.OpenTrainingSession(pb.OpenTrainingSessionRequest()).session_id
    shape = None if saved else pb.AdapterShape(rank=4, seed=3)
    made = stub.CreateTraining(pb.CreateTrainingRequest(session_id=session, shape=shape, saved=saved))
    return str(made.training_id)


def learn(training: str, number: int, **more: Any) -> pb.ForwardBackwardRequest:
    datum = pb.TrainingDatum(token_ids=IDS[:-1], target_ids=IDS[1:])
    turn = pb.TrainingTurn(training_id=training, sequence_number=number)
    return pb.ForwardBackwardRequest(turn=turn, data=[datum], loss="cross_entropy", **more)


def move(training: str, number: int) -> pb.StepOptimizerRequest:
    turn = pb.TrainingTurn(training_id=training, sequence_number=number)
    return pb.StepOptimizerRequest(turn=turn, learning_rate=0.01)


def loss(stub: TrainServiceStub, training: str, number: int) -> float:
    return float(stub.ForwardBackward(learn(training, number, forward_only=True)).loss)


def test_a_loop_over_grpc_and_what_is_left_when_the_trainer_is_killed(
    server: Server, client: Client, tmp_path: Path
) -> None:
    with trainer(tmp_path, server) as going:
        stub = going.stub()
        training = begun(stub)
        late = stub.StepOptimizer.future(move(training, 2))
        first = stub.ForwardBackward(learn(training, 1))
        assert late.result().gradient_norm > 0
        assert stub.ForwardBackward(learn(training, 1)) == first
        with pytest.raises(grpc.RpcError) as refused:
            stub.ForwardBackward(learn(training, 1, forward_only=True))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        turn = pb.TrainingTurn(training_id=training, sequence_number=3)
        state = stub.SaveTrainingState(pb.SaveTrainingStateRequest(turn=turn, name="one")).state
        found = loss(stub, training, 4)
        turn = pb.TrainingTurn(training_id=training, sequence_number=5)
        model = stub.PublishTraining(pb.PublishTrainingRequest(turn=turn, name="one")).model
        session = training.partition(":")[0]
        asked = pb.SampleTrainingRequest(
            session_id=session, model=model, token_ids=IDS[:3], max_tokens=4, num_answers=2
        )
        answers = stub.SampleTraining(asked).answers
        assert [len(one.token_ids) for one in answers] == [len(one.logprobs) for one in answers]
        stub.ForwardBackward(learn(training, 6))
        going.process.kill()
        going.process.wait()
    with trainer(tmp_path, server) as going:
        stub = going.stub()
        with pytest.raises(grpc.RpcError, match="the trainer was started anew") as lost:
            stub.StepOptimizer(move(training, 7))
        assert lost.value.code() is grpc.StatusCode.NOT_FOUND
        resumed = begun(stub, saved=pb.SavedOrigin(state=state, with_optimizer=True))
        assert loss(stub, resumed, 1) == found
    assert client.generate(IDS[:3], model=model, max_tokens=2).choices


@needs_sdk
@pytest.mark.parametrize("loop", ["supervised", "grpo"])
def test_a_loop_on_the_tinker_sdk_as_it_is(server: Server, base: Base, tmp_path: Path, loop: str) -> None:
    with trainer(tmp_path, server) as going:
        environment = {**os.environ, "TINKER_BASE_URL": going.http, "TINKER_API_KEY": "tml-anything"}
        environment.pop("PYTHONPATH", None)
        command = [str(SDK), str(LOOPS / f"{loop}.py"), str(base.path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    if loop == "supervised":
        assert told["losses"][-1] < 0.1 * told["losses"][0]
        assert told["said"] == told["learned"]
    else:
        assert max(told["mismatch"]) <= 0.02
        assert told["rewards"][-1] > told["rewards"][0]
