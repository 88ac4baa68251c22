"""A policy on a server that is away for a while."""

from __future__ import annotations

from typing import Any, cast

import grpc
import pytest

from graft.client import Client, Unavailable
from graft.training.evaluation.asking import side_by_side
from graft.training.reinforce.asking.asked_grader import AskedGrader
from graft.training.reinforce.asking.served import Asking, ServedPolicy
from graft.v1 import grading_pb2 as pb
from graft.v1.adapter_pb2 import AdapterVersion, Lineage
from tests.training.reinforce.made import rollout

AWAY = Unavailable("the engine is replaced", code=grpc.StatusCode.UNAVAILABLE)


class Server:
    """Every second word goes to nobody."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _said(self, name: str) -> None:
        self.asked.append(name)
        if self.asked.count(name) % 2:
            raise AWAY

    def push_adapter(self, files: Any, **said: Any) -> Any:
        self._said("push")
        return type("Push", (), {"version": type("Version", (), {"digest": "sha256:1"})})

    def score(self, *said: Any, **more: Any) -> Any:
        self._said("score")
        return type("Scores", (), {"scores": []})

    def grade(self, *said: Any, **more: Any) -> list[pb.Grade]:
        self._said("grade")
        return [pb.Grade(reward=0.5)]

    def delete_version(self, name: str, digest: str) -> None:
        self._said("delete")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(side_by_side, "_LONGEST_PAUSE_SECONDS", 0.001)
    return Server()


def test_it_is_asked_again_for_whatever_a_round_needs(server: Server) -> None:
    policy = ServedPolicy(cast(Client, server), "p", asking=Asking(num_answers=1, max_tokens=4))
    assert policy.publish({}, step=1) == "sha256:1"
    assert policy.score([1], [[2]]) == []
    assert AskedGrader(cast(Client, server), {}, [{}])([(0, rollout())]) == [0.5]
    assert server.asked == ["push", "push", "score", "score", "grade", "grade"]


def test_an_old_version_that_cannot_be_deleted_now_fails_no_round(server: Server) -> None:
    policy = ServedPolicy(cast(Client, server), "p", asking=Asking(num_answers=1, max_tokens=4), num_kept=1)
    policy._there = ["sha256:0"]
    policy.publish({}, step=1)
    assert "delete" in server.asked


class Adapter:
    """One on a server that keeps what is pushed, with where it comes from."""

    def __init__(self) -> None:
        self.kept: list[AdapterVersion] = []
        self.aliases: list[str | None] = []

    def push_adapter(self, files: Any, *, alias: str | None, **said: Any) -> Any:
        number = 1 + max((one.number for one in self.kept), default=0)
        made = AdapterVersion(number=number, digest=f"sha256:{number}", lineage=Lineage(job=files["origin"]))
        self.kept.append(made)
        self.aliases.append(alias)
        return type("Push", (), {"version": made})

    def versions(self, name: str) -> list[AdapterVersion]:
        return list(reversed(self.kept))

    def delete_version(self, name: str, digest: str) -> None:
        self.kept = [one for one in self.kept if one.digest != digest]


def test_jobs_that_share_an_adapter_take_nothing_from_each_other_and_leave_nothing() -> None:
    """Whatever was killed between."""
    server = Adapter()

    def policy(job: str, num: int) -> ServedPolicy:
        asking = Asking(num_answers=1, max_tokens=4)
        made = ServedPolicy(cast(Client, server), "p", asking=asking, num_kept=2, alias=None)
        made.recall(job)
        for step in range(num):
            made.publish({"origin": job}, step=step)
        return made

    server.push_adapter({"origin": "the user's"}, alias="stable")
    policy("one", 3)
    other = policy("two", 1)
    again = policy("one", 1)
    assert [one.lineage.job for one in server.kept] == ["the user's", "one", "two", "one"]
    assert again._model == "p@sha256:6", "nobody can move it"
    again.leave()
    other.leave()
    assert [one.lineage.job for one in server.kept] == ["the user's"]
    assert set(server.aliases) == {"stable", None}


def test_a_server_that_stays_away_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AWAY

    with pytest.raises(Unavailable):
        side_by_side.asked_again(never, max_wait_seconds=0.002)
