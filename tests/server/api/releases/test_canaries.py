"""Canaries under traffic, over both fronts, on a scripted engine: who answers, what counts, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import openai
import pytest

from graft.adapters.errors import CatalogCorrupt, StoreUnavailable
from graft.server.api.faults import is_servers
from graft.server.engine.engine import EngineDied, InvalidRequest, LoadFailed
from graft.server.errors import (
    DeadlineExceeded,
    Draining,
    NoAnswer,
    NotReady,
    Overloaded,
    ParityFailed,
    ParityUnavailable,
)
from graft.v1 import inference_pb2, release_pb2_grpc
from graft.v1 import job_pb2 as jobs
from graft.v1 import release_pb2 as pb
from tests.server.api.conftest import Server, StartServer

ENDED = {pb.ROLLOUT_STAGE_STABLE, pb.ROLLOUT_STAGE_ROLLED_BACK, pb.ROLLOUT_STAGE_SUPERSEDED}


def stub(server: Server) -> release_pb2_grpc.ReleaseServiceAsyncStub:
    return release_pb2_grpc.ReleaseServiceStub(server.channel)


async def two_versions(server: Server) -> tuple[str, str]:
    """Digests of `fable`'s versions; `stable` is the first."""
    first, second = await server.imported("fable", seed=1), await server.imported("fable", seed=2)
    await server.point("fable", "stable", first.digest)
    return first.digest, second.digest


async def begun(server: Server, version: str, **canary: Any) -> pb.Rollout:
    request = pb.BeginCanaryRequest(adapter="fable", version=version, canary=jobs.CanarySpec(**canary))
    return (await stub(server).BeginCanary(request)).rollout


async def found(server: Server, rollout: pb.Rollout) -> pb.Rollout:
    return (await stub(server).GetRollout(pb.GetRolloutRequest(rollout=rollout.id))).rollout


async def told(server: Server, response: str, outcome: float) -> bool:
    answer = await server.http.post("/v1/outcomes", json={"response": response, "outcome": outcome})
    assert answer.status_code == 200, answer.text
    counted: bool = answer.json()["counted"]
    return counted


async def asked(server: Server, **fields: Any) -> tuple[str, str]:
    """The reply's id and the version that it names."""
    reply = await server.openai.chat.completions.create(
        model=fields.pop("model", "fable"), messages=[{"role": "user", "content": "a"}], max_tokens=1, **fields
    )
    return reply.id, str(reply.system_fingerprint)


async def test_a_session_stays_on_one_side_and_the_share_is_kept(server: Server) -> None:
    _, second = await two_versions(server)
    await begun(server, second, share_percent=30)
    sides = {user: (await asked(server, user=user))[1] for user in map(str, range(60))}
    assert 6 <= Counter(sides.values())[second] <= 32, "30 % of 60; chance leaves this range once in a thousand"
    for user in list(sides)[:20]:
        assert (await asked(server, user=user))[1] == sides[user]
        asked_by_header = await asked(server, extra_headers={"x-graft-session": user})
        assert asked_by_header[1] == sides[user]
        metadata = (("x-graft-session", user),)
        request = inference_pb2.GenerateRequest(model="fable", prompt=inference_pb2.Prompt(text="a"))
        request.sampling.max_tokens = 1
        message = await anext(aiter(server.inference.Generate(request, metadata=metadata)))
        assert message.answerer.version_digest == sides[user]


async def test_whoever_names_a_version_or_an_alias_gets_it_and_does_not_count(server: Server) -> None:
    first, second = await two_versions(server)
    rollout = await begun(server, second, share_percent=50)
    for model, digest in (("fable@1", first), ("fable:stable", first), ("fable:canary", second), ("fable@2", second)):
        assert {(await asked(server, model=model))[1] for _ in range(5)} == {digest}
    now = await found(server, rollout)
    assert (now.canary_tally.num_answers, now.stable_tally.num_answers) == (0, 0)


async def test_after_its_answers_a_canary_becomes_stable_and_no_request_fails(server: Server) -> None:
    _, second = await two_versions(server)
    rollout = await begun(server, second, share_percent=40, num_answers=20)
    answers = 0
    while (await found(server, rollout)).stage == pb.ROLLOUT_STAGE_CANARY and answers < 400:
        await asyncio.gather(*(asked(server) for _ in range(8)))
        answers += 8
    now = await found(server, rollout)
    assert now.stage == pb.ROLLOUT_STAGE_STABLE and now.canary_tally.num_answers >= 20, now
    assert {(await asked(server))[1] for _ in range(10)} == {second}
    assert server.metric("graft_rollouts_total", stage="stable") == 1 and server.metric("graft_canaries") == 0
    counted = now.canary_tally.num_answers + now.stable_tally.num_answers
    assert counted <= server.metric("graft_canary_answers_total", outcome="ok") <= answers
    back = (await stub(server).RollBack(pb.RollBackRequest(adapter="fable"))).rollout
    assert back.id == rollout.id and back.stage == pb.ROLLOUT_STAGE_ROLLED_BACK
    assert {(await asked(server))[1] for _ in range(10)} == {now.stable_digest}


async def test_a_canary_that_gets_worse_is_taken_back_within_its_answers_under_traffic(server: Server) -> None:
    """Its outcomes turn bad after 15 good ones; eight callers at once, and none of their requests fails."""
    _, second = await two_versions(server)
    rollout = await begun(server, second, share_percent=25, num_answers=200)
    num_canary = 0

    async def call() -> None:
        nonlocal num_canary
        while True:
            response, version = await asked(server)
            num_canary += version == second
            if not await told(server, response, 0.0 if version == second and num_canary > 15 else 1.0):
                return  # the comparison has ended

    async with asyncio.timeout(60):
        await asyncio.gather(*(call() for _ in range(8)))
    now = await found(server, rollout)
    assert now.stage == pb.ROLLOUT_STAGE_ROLLED_BACK and "outcomes, short of 1" in now.reasons[-1]
    assert 15 < num_canary < 200
    assert {(await asked(server))[1] for _ in range(10)} == {now.stable_digest}
    assert server.metric("graft_requests_total", outcome="ok") == server.metric("graft_requests_total")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_canary_whose_answers_fail_is_taken_back(server: Server, stream: bool) -> None:
    _, second = await two_versions(server)
    rollout = await begun(server, second, share_percent=10, num_answers=200)
    server.script.broken_digest = second
    num_failed = 0
    while (await found(server, rollout)).stage == pb.ROLLOUT_STAGE_CANARY:
        try:
            if stream:
                frames = await server.openai.chat.completions.create(
                    model="fable", messages=[{"role": "user", "content": "a"}], max_tokens=3, stream=True
                )
                async for _ in frames:
                    pass
            else:
                await asked(server)
        except openai.APIError:
            num_failed += 1
        assert num_failed < 10
    now = await found(server, rollout)
    assert now.stage == pb.ROLLOUT_STAGE_ROLLED_BACK and now.canary_tally.num_errors == num_failed
    assert "errors" in now.reasons[-1]


@pytest.mark.parametrize("fetched", ["before it is entered", "as it is entered"])
async def test_a_canary_whose_chat_template_is_lost_is_taken_back(
    server: Server, monkeypatch: pytest.MonkeyPatch, fetched: str
) -> None:
    _, second = await two_versions(server)
    rollout = await begun(server, second, share_percent=50, num_answers=200)
    templates, num_asked = server.running.serving._chat_templates, 0

    async def lost(version: Any) -> str | None:
        nonlocal num_asked
        num_asked += version.digest == second
        if version.digest == second and (fetched == "before it is entered" or num_asked % 2 == 0):
            raise StoreUnavailable("the store is away")
        return None

    monkeypatch.setattr(templates, "of", lost)
    num_failed = 0
    while (await found(server, rollout)).stage == pb.ROLLOUT_STAGE_CANARY:
        try:
            await asked(server)
        except openai.InternalServerError:
            num_failed += 1
        assert num_failed < 10
    now = await found(server, rollout)
    assert now.stage == pb.ROLLOUT_STAGE_ROLLED_BACK and now.canary_tally.num_errors == num_failed


async def test_an_outcome_counts_once_and_for_nobody_elses_answer(server: Server) -> None:
    _, second = await two_versions(server)
    response, _ = await asked(server)
    assert not await told(server, response, 1.0), "before the canary"
    rollout = await begun(server, second, share_percent=50)
    response, version = await asked(server)
    assert await told(server, response, 0.5) and await told(server, response, 0.5)
    conflict = await server.http.post("/v1/outcomes", json={"response": response, "outcome": 1})
    assert conflict.status_code == 409 and "does not change" in conflict.json()["error"]["message"]
    now = await found(server, rollout)
    tally = now.canary_tally if version == second else now.stable_tally
    assert (tally.num_outcomes, tally.mean_outcome) == (1, 0.5)
    refused = await server.http.post("/v1/outcomes", json={"response": "", "outcome": 2, "more": 1})
    assert refused.status_code == 400
    for field in ("response", "outcome", "more"):
        assert field in refused.json()["error"]["message"]


async def test_by_hand_it_is_promoted_and_taken_back_in_one_call_each(server: Server) -> None:
    first, second = await two_versions(server)
    await begun(server, second)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begun(server, second)
    assert caught.value.code() == grpc.StatusCode.ABORTED and "has a canary already" in str(caught.value.details())
    request = pb.PromoteRolloutRequest(adapter="fable", request_id="p")
    done = (await stub(server).PromoteRollout(request)).rollout
    assert done.stage == pb.ROLLOUT_STAGE_STABLE and (await asked(server))[1] == second
    assert (await stub(server).PromoteRollout(request)).rollout == done, "repeated, answered again"
    await stub(server).RollBack(pb.RollBackRequest(adapter="fable"))
    assert (await asked(server))[1] == first
    listed = await stub(server).ListRollouts(pb.ListRolloutsRequest(adapter="fable"))
    assert [one.id for one in listed.rollouts] == [done.id]


async def test_what_cannot_be_a_canary_is_refused_with_all_reasons(server: Server) -> None:
    first, second = await two_versions(server)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begun(server, second, share_percent=100, num_answers=-1, tolerance=2, max_false_alarm=0.9)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    for field in ("share_percent", "num_answers", "tolerance", "max_false_alarm"):
        assert f"canary.{field}" in str(caught.value.details())
    with pytest.raises(grpc.aio.AioRpcError, match="is stable already"):
        await begun(server, first)


async def test_two_servers_add_their_answers_up_and_a_restart_goes_on(start_server: StartServer) -> None:
    one = await start_server()
    _, second = await two_versions(one)
    rollout = await begun(one, second, share_percent=50, num_answers=1_000)
    await asyncio.gather(*(asked(one) for _ in range(20)))
    other = await start_server()
    # The catalog is read when it begins; it counts what it answers as soon as it knows the canary.
    async with asyncio.timeout(30):
        while other.metric("graft_canaries") != 1:
            await asyncio.sleep(0.01)
    sides = await asyncio.gather(*(asked(other, user=str(n)) for n in range(20)))
    assert [side for _, side in sides] == [(await asked(one, user=str(n)))[1] for n in range(20)]
    now = await found(one, rollout)
    async with asyncio.timeout(30):
        while now.canary_tally.num_answers + now.stable_tally.num_answers < 60:
            now = await found(one, rollout)
    assert await told(one, sides[0][0], 1.0), "an outcome is taken by any server"


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (StoreUnavailable("away"), True),
        (CatalogCorrupt("torn"), True),
        (ParityUnavailable("no reference"), True),
        (ParityFailed("other numbers"), True),
        (LoadFailed("no room"), True),
        (EngineDied("died"), True),
        (DeadlineExceeded("late"), True),
        (RuntimeError("a bug"), True),
        (Draining("going"), False),
        (NotReady("coming"), False),
        (Overloaded("full", retry_after_seconds=1), False),
        (InvalidRequest("too long"), False),
        (NoAnswer("said something else"), False),
    ],
)
def test_what_fails_by_the_servers_fault_counts(error: Exception, is_fault: bool) -> None:
    assert is_servers(error) is is_fault
