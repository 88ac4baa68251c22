"""The gRPC service: what is generated is what is scored, cancellation and deadlines reach the engine."""

from __future__ import annotations

import time

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from graft.client import Client, DeadlineExceeded, InvalidArgument, NotFound
from tests.running import BASE, Server


def running_requests(server: Server) -> float:
    for line in httpx.get(f"{server.http}/metrics").text.splitlines():
        if line.startswith("vllm:num_requests_running"):
            return float(line.rpartition(" ")[2])
    raise AssertionError("vllm:num_requests_running is not exposed")


def test_what_is_generated_is_what_is_scored(client: Client, two_versions: str) -> None:
    for model in ("", f"{two_versions}@1", f"{two_versions}@2"):
        made = client.generate("cat -> ", model=model, max_tokens=6, logprobs=0, ignore_eos=True)
        if not made.text.isascii() or len(made.text) != 6:
            continue
        (score,) = client.score("cat -> ", [made.text], model=model).scores
        for generated, scored in zip(made.choices[0].logprobs, score.tokens, strict=True):
            assert generated.token_id == scored.token_id
            assert generated.logprob == pytest.approx(scored.logprob, abs=0.1)


def test_the_base_answers_where_no_adapter_is_named(client: Client) -> None:
    for model in ("", "base", BASE):
        answerer = client.generate("12+35? ", model=model, max_tokens=2).answerer
        assert (answerer.adapter, answerer.version_digest, answerer.version_number) == ("", "", 0)
        assert answerer.base == BASE
        assert answerer.base_digest.startswith("sha256:")


def test_tokenize(client: Client) -> None:
    reply = client.tokenize("12 ab")
    assert len(reply.token_ids) == 5
    assert reply.max_model_tokens >= 512
    assert len(client.tokenize([{"role": "user", "content": "hi"}]).token_ids) > 2


def test_several_choices(client: Client) -> None:
    made = client.generate("Once upon", num_choices=3, temperature=1.0, seed=3, max_tokens=8)
    assert len(made.choices) == 3
    assert made.usage.completion_tokens <= 24


def test_cancellation_reaches_the_engine(server: Server, client: Client) -> None:
    stream = client.stream("Once", max_tokens=900, ignore_eos=True)
    next(stream)
    stream.close()
    end = time.monotonic() + 20
    while running_requests(server):
        assert time.monotonic() < end, "the engine still runs a cancelled request"
        time.sleep(0.1)


def test_deadline(server: Server, client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        client.generate("Once", max_tokens=900, ignore_eos=True, timeout=0.05)


def test_health_and_reflection(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"graft.v1.InferenceService", "graft.v1.AdapterService", "graft.v1.ServerService"} <= set(services)


def test_metrics(server: Server, client: Client) -> None:
    client.generate("a", max_tokens=2)
    text = httpx.get(f"{server.http}/metrics").text
    for name in ("graft_requests_total", "graft_time_to_first_token_seconds", "graft_tokens_total", "vllm:"):
        assert name in text


def test_bad_input(client: Client) -> None:
    with pytest.raises(NotFound):
        client.generate("a", model="nobody")
    with pytest.raises(InvalidArgument) as error:
        client.generate("a", temperature=-1.0, top_p=2.0, max_tokens=0)
    assert len(error.value.violations) == 3
    with pytest.raises(InvalidArgument):
        client.generate([2**31])
    with pytest.raises(InvalidArgument):
        client.generate("a" * 5000)
    with pytest.raises(InvalidArgument):
        client.score("a", [""])
    assert client.generate("a", max_tokens=1).usage.completion_tokens == 1


def test_the_server_says_what_it_uses_of_the_processor(client: Client) -> None:
    sets = client.info().instruction_sets
    assert set(sets) == {"torch", "oneDNN", "AMX tiles"}
    assert sets["AMX tiles"] in {"absent", "granted", "refused", "not wanted"}
