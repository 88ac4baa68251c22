"""What tinker 0.38 sends, as it was recorded, and what it hears: without that SDK."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from graft.adapters.base.base import Base
from graft.client import Client
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.sessions import Sessions
from graft.v1.tinker_pb2 import Tinker
from tests.end_to_end.researching.trainer import Caller, shipped, trainer
from tests.running import Server

REQUESTS = json.loads((Path(__file__).parent / "requests_0_38.json").read_text())
IDS, LOGPROBS, ADVANTAGES = [17, 44, 91, 120, 33, 250, 71], [0, 0, -5, -6, -4, -5.5], [0, 0, 0.5, -1, 0.25, 2]


@pytest.fixture(scope="module")
def held(base: Base) -> HeldBase:
    return shipped(base)


@pytest.fixture
def going(held: HeldBase, server: Server, tmp_path: Path) -> Iterator[tuple[TestClient, Sessions]]:
    with trainer(held, server.grpc, tmp_path, Limits(max_adapters=2, max_text_tokens=64)) as both:
        yield both


def numbers(output: bytes) -> tuple[np.ndarray[Any, Any], float]:
    """Log-probabilities, and the loss."""
    read = Tinker.ForwardBackwardOutput.FromString(output)
    (record,) = read.loss_fn_outputs
    assert record.num_datums == 1
    return np.frombuffer(record.fields["logprobs"].data, dtype=np.float32).astype(float), read.metrics["loss:sum"]


def test_a_recorded_session_is_answered_as_the_sdk_reads_it(going: tuple[TestClient, Sessions], client: Client) -> None:
    caller, outputs, told = Caller(going[0]), list[bytes](), list[Any]()
    for recorded in REQUESTS:
        reply = caller.send(recorded)
        (outputs if isinstance(reply, bytes) else told).append(reply)
    supervised, *reinforced, sampled, scored, resumed = outputs
    logprob, loss = numbers(supervised)
    assert loss == pytest.approx(-logprob[2:].sum(), abs=1e-5)
    old, advantage = np.array(LOGPROBS), np.array(ADVANTAGES)
    bounds = {"ppo": (0.9, 1.1), "cispo": (0.8, 1.2)}
    for name, output in zip(("importance_sampling", "ppo", "cispo", "dro"), reinforced, strict=True):
        logprob, loss = numbers(output)
        ratio = np.exp(logprob - old)
        clipped = np.clip(ratio, *bounds.get(name, (0, math.inf)))
        expected = {
            "importance_sampling": -(ratio * advantage),
            "ppo": -np.minimum(ratio * advantage, clipped * advantage),
            "cispo": -clipped * logprob * advantage,
            "dro": -(logprob * advantage - 0.5 * 0.05 * (logprob - old) ** 2),
        }[name]
        assert loss == pytest.approx(expected.sum(), abs=1e-5 * max(1, abs(loss)))
    assert numbers(resumed)[0] == pytest.approx(logprob, abs=1e-6), "the state is that of the training"
    answers = Tinker.SampleResponse.FromString(sampled)
    assert [len(one.tokens) // 4 for one in answers.sequences] == [4, 4]
    assert all(one.topk_sampled_logprobs.k == 2 for one in answers.sequences)
    prompt = np.frombuffer(Tinker.SampleResponse.FromString(scored).prompt_logprobs, dtype=np.float32)
    assert np.isnan(prompt[0])
    # Tokens that nobody says in this order, at -9 nats, where 4 bits round coarsely.
    assert np.abs(prompt[1:] - logprob).mean() <= 0.2, "served as it was trained"
    (moved,) = [one for one in told if "metrics" in one]
    assert moved["metrics"]["gradient_norm"] > 0
    named = client.get_adapter(f"train-{caller.session}-0")
    assert [one.name.rpartition("/")[2] for one in named.aliases] == ["named"]


def test_a_retry_is_answered_and_not_done_again(going: tuple[TestClient, Sessions]) -> None:
    caller = Caller(going[0])
    begun = [caller.send(one) for one in REQUESTS[2:8]]
    learn, step = REQUESTS[6:8]
    assert caller.send(step) == begun[-1]
    assert caller.send(learn) == begun[-2]
    heard = [caller.post("retrieve_future", request_id=begun[-1]["request_id"]).json() for _ in range(3)]
    assert heard[0] == heard[1] == heard[2]
    steps = going[1]._sessions[caller.session].trainings[0]._trainee
    assert steps is not None
    assert steps.step.number == 1


def test_what_is_wrong_is_told_at_once_and_in_one_line(going: tuple[TestClient, Sessions]) -> None:
    caller = Caller(going[0])
    for one in REQUESTS[2:6]:
        caller.send(one)
    model = f"{caller.session}:train:0"
    request = Tinker.ForwardBackwardRequest(model_id=model, seq_id=1, loss_fn="ppo", loss_fn_config={"beta": 1.0})
    for tokens in ([1, 2], [99999], []):
        datum = request.data.add()
        datum.model_input.add().encoded_text.tokens = np.array(tokens, dtype=np.int32).tobytes()
        datum.loss_fn_inputs["target_tokens"].dense = np.array([1, 2, 3]).tobytes()
        datum.loss_fn_inputs["target_tokens"].dtype = 2
    refused = going[0].post("/api/v1/forward_backward", content=request.SerializeToString())
    assert refused.status_code == 422
    told = refused.json()["detail"]
    assert "\n" not in told
    for part in ("'beta' is none", "lacks logprobs, advantages", "3 targets for 2 tokens"):
        assert part in told
    for path, body, status, part in (
        ("optim_step", {"model_id": model, "seq_id": 1, "adam_params": {"beta1": 2}}, 422, "beta1"),
        ("optim_step", {"model_id": model, "seq_id": 1, "optimizer_params": {"type": "dimuon"}}, 422, "adam_params"),
        ("save_weights", {"model_id": model, "seq_id": 1, "path": "../../x"}, 422, "is no name"),
        ("save_weights_for_sampler", {"model_id": model, "seq_id": 1, "kind": "inflight"}, 422, "snapshot"),
        ("get_info", {"model_id": f"{caller.session}:train:7"}, 404, "no training"),
        ("get_info", {"model_id": "ffff:train:0"}, 404, "go on from a state"),
        ("session_heartbeat", {"session_id": "ffff"}, 410, "no session"),
        ("retrieve_future", {"request_id": f"{model}:9"}, 404, "no request 9"),
        ("copy_weights", {}, 404, "not offered"),
    ):
        reply = caller.post(path, **body)
        assert reply.status_code == status, f"{path} {reply.text}"
        assert part in reply.json()["detail"]
        assert reply.headers["x-should-retry"] == "false"
    strange = going[0].post("/api/v1/create_session", headers={"X-API-Key": "sk-1"}, json={})
    assert strange.status_code == 401


def test_adapters_are_bounded_and_a_lost_session_frees_its_own(going: tuple[TestClient, Sessions]) -> None:
    caller = Caller(going[0])
    caller.send(REQUESTS[2])
    lora = {"rank": 2, "train_unembed": False}

    def create(number: int) -> Any:
        body = {"session_id": caller.session, "model_seq_id": number, "base_model": "rootstock-5m", "lora_config": lora}
        return caller.post("create_model", **body)

    assert [create(number).status_code for number in (0, 1, 1, 2)] == [200, 200, 200, 429]
    sessions = going[1]
    now = sessions._clock()
    sessions._clock = lambda: now + sessions.place.limits.idle_seconds + 1
    sessions.sweep()
    assert create(0).status_code == 404
    caller.send(REQUESTS[2])
    assert create(0).status_code == 200


def test_nothing_of_one_caller_is_another_s(going: tuple[TestClient, Sessions]) -> None:
    caller = Caller(going[0])
    for recorded in REQUESTS[2:6]:
        caller.send(recorded)
    model = f"{caller.session}:train:0"
    saved = caller.post("save_weights", model_id=model, seq_id=1, path="mine").json()
    path = caller.post("retrieve_future", request_id=saved["request_id"]).json()["path"]
    other = {"X-API-Key": "tml-another"}
    session = going[0].post("/api/v1/create_session", headers=other, json={}).json()["session_id"]
    for verb, body in (
        ("session_heartbeat", {"session_id": caller.session}),
        ("get_info", {"model_id": model}),
        ("retrieve_future", {"request_id": saved["request_id"]}),
        ("optim_step", {"model_id": model, "seq_id": 2, "adam_params": {}}),
        ("weights_info", {"tinker_path": path}),
        ("load_weights", {"session_id": session, "model_seq_id": 0, "path": path, "optimizer": True}),
    ):
        reply = going[0].post(f"/api/v1/{verb}", headers=other, json=body)
        assert reply.status_code in (404, 410), f"{verb}: {reply.text}"
    assert caller.post("weights_info", tinker_path=path).json()["lora_rank"] == 4
