"""Rewards over gRPC, many at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from graft.client import AsyncClient, Client, Observation
from graft.training.reinforce.asking.asked_grader import AskedGrader
from graft.training.reinforce.asking.grader_faults import GradersFailed, Tolerance
from graft.training.reinforce.rollout import Rollout
from graft.v1 import grading_pb2 as pb
from graft.v1 import grading_pb2_grpc
from tests.server.api.conftest import Server, StartServer
from tests.server.api.http.test_graders import CHECK, JUDGED, SCRIPT
from tests.server.grading.conftest import python

__all__ = ["python"]


async def grade(server: Server, grader: Any, *observations: pb.Observation) -> list[pb.Grade]:
    stub: grading_pb2_grpc.GradingServiceAsyncStub = grading_pb2_grpc.GradingServiceStub(server.channel)
    request = pb.GradeRequest(grader=json.dumps(grader), observations=observations)
    return list((await stub.Grade(request)).grades)


async def test_rewards_in_order(server: Server) -> None:
    answers = [pb.Observation(output_text=str(n), item=json.dumps({"answer": str(n % 3)})) for n in range(50)]
    assert [one.reward for one in await grade(server, CHECK, *answers)] == [float(n < 3) for n in range(50)]


async def test_parts_and_faults(server: Server) -> None:
    multi = {"type": "multi", "name": "m", "graders": {"a": CHECK, "b": JUDGED}, "calculate_output": "a + b"}
    (found,) = await grade(server, multi, pb.Observation(output_text="7", item='{"answer": "7"}'))
    assert (found.reward, dict(found.sub_rewards)) == (0, {"a": 1, "b": 0})
    assert [(one.grader, one.kind) for one in found.faults] == [("judged", pb.GRADE_FAULT_KIND_MODEL_GRADER_PARSE)]
    assert found.tokens_by_model["tiny"] > 3


async def test_by_the_client(server: Server) -> None:
    async with AsyncClient(f"localhost:{server.grpc_port}") as client:
        observations = [
            Observation(output_text="7", item={"answer": "7"}),
            Observation(output_text="8", item={"answer": "7"}, output_tools=[{"name": "add"}]),
        ]
        assert [one.reward for one in await client.grade(CHECK, observations)] == [1, 0]


async def test_tools_are_seen(server: Server) -> None:
    called = {**CHECK, "input": "{{sample.output_tools[0].function.name}}", "reference": "add"}
    (found,) = await grade(server, called, pb.Observation(output_tools=['{"function": {"name": "add"}}']))
    assert found.reward == 1


@pytest.mark.parametrize(
    ("grader", "observations", "says"),
    [
        ({**CHECK, "operation": "gt"}, [pb.Observation()], "grader.operation"),
        (SCRIPT, [pb.Observation()], "--python-graders"),
        (CHECK, [], "between 1 and 1024"),
        (CHECK, [pb.Observation(), pb.Observation(item="[1]")], r"observations\[1\].item"),
        (CHECK, [pb.Observation(output_tools=["{"])], r"observations\[0\].output_tools\[0\]"),
    ],
)
async def test_what_is_refused(server: Server, grader: Any, observations: list[pb.Observation], says: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=says) as caught:
        await grade(server, grader, *observations)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_training_asks_for_rewards(server: Server) -> None:
    """More than are graded in one call, and answers on which the grader fails."""
    items: list[dict[str, object]] = [{"answer": "7"}, {}]
    answers = [(int(n % 10 == 9), _rollout(str(n % 8))) for n in range(130)]
    told: list[str] = []

    def ask(max_share: float) -> list[float | None]:
        with Client(f"localhost:{server.grpc_port}") as client:
            grader = AskedGrader(client, CHECK, items, tolerance=Tolerance(max_share=max_share), tell=told.append)
            return grader(answers)

    rewards = await asyncio.to_thread(ask, 0.1)
    assert rewards == [None if n % 10 == 9 else float(n % 8 == 7) for n in range(130)]
    (said,) = told
    assert said.startswith("graders failed on 13 of 130 answers (10%): invalid_variable 13; the first: exact: item.ans")
    with pytest.raises(GradersFailed, match="13 of 130"):
        await asyncio.to_thread(ask, 0.05)


HARMS = """
import ctypes, os, socket
def grade(sample, item):
    match item["harm"]:
        case "fork bomb":
            while True:
                try: os.fork()
                except OSError: pass
        case "endless loop":
            while True: pass
        case "10 GB": return len(bytearray(10 << 30))
        case "file": return len(open("/etc/passwd").read())
        case "network": return len(socket.create_connection(("127.0.0.1", item["port"])).recv(1))
        case "crash": return ctypes.string_at(0)
    return 0.5
"""


@pytest.mark.slow
async def test_a_training_goes_on_or_ends_where_scripts_mean_harm(start_server: StartServer, python: Path) -> None:
    """Each is contained, the others' rewards are as they were, and the training says what happened."""
    server = await start_server(python_graders=True, python_grader_executable=python, python_grader_seconds=5.0)
    harms = ("none", "fork bomb", "endless loop", "10 GB", "file", "network", "crash", "none")
    items: list[dict[str, object]] = [{"harm": harm, "port": server.grpc_port} for harm in harms]
    told: list[str] = []

    def ask() -> tuple[AskedGrader, list[float | None]]:
        with Client(f"localhost:{server.grpc_port}") as client:
            script = {"type": "python", "name": "script", "source": HARMS}
            grader = AskedGrader(client, script, items, tolerance=Tolerance(max_share=0.75), tell=told.append)
            return grader, grader([(row, _rollout("7")) for row in range(len(items))])

    grader, rewards = await asyncio.to_thread(ask)
    assert rewards == [0.5, *[None] * 6, 0.5]
    words = [one.details for one in grader.last.faults]
    for said, expected in zip(words, ("5 s", "5 s", "memory", "FileNotFound", "Permission", "signal 11"), strict=True):
        assert expected in said
    assert told[0].startswith("graders failed on 6 of 8 answers (75%): python_grader_runtime 6; the first: script: ")
    with pytest.raises(GradersFailed, match="6 of 8"):
        Tolerance.of("auto").check(grader.last)


def _rollout(text: str) -> Rollout:
    return Rollout(prompt_ids=[1], answer_ids=[2], logprobs=[0.0], step=0, version="", is_whole=True, text=text)
