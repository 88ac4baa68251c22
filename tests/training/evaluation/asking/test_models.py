"""Bases, adapters and programs through a client that is scripted."""

from __future__ import annotations

from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from graft.client import Client, InvalidArgument, NoAnswer, NotFound, ResourceExhausted, Unavailable
from graft.client.errors import Details, Violation
from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.connection import connected
from graft.training.evaluation.asking.model import Asked, Decoding, Refused, Turn, Unanswered
from graft.training.evaluation.asking.programs import model_of
from graft.training.evaluation.asking.side_by_side import each
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks.task import Kind, Metric, Question, Task

ONE = Decoding(max_tokens=8)


def refusal(*violations: tuple[str, str]) -> InvalidArgument:
    told = tuple(Violation(field=field, description=text) for field, text in violations)
    return InvalidArgument("bad", code=grpc.StatusCode.INVALID_ARGUMENT, details=Details(violations=told))


class ScriptedClient:
    """Its program has the variable `word`."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def generate(self, prompt: Any, **options: Any) -> SimpleNamespace:
        self.calls.append((prompt, options))
        if prompt == "long":
            raise refusal(("prompt", "is too long"))
        return SimpleNamespace(choices=[SimpleNamespace(text=f"{n}") for n in range(options["num_choices"])])

    def score(self, prompt: Any, continuations: Any, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(scores=[SimpleNamespace(logprob=-1.0, is_greedy=True) for _ in continuations])

    def preview_prompt(self, prompt: str, variables: dict[str, Any]) -> None:
        self._check(variables)

    def run_prompt(self, prompt: str, variables: dict[str, Any]) -> SimpleNamespace:
        self.calls.append((prompt, variables))
        self._check(variables)
        if variables["word"] == "mumble":
            raise NoAnswer("there is no number in it", code=grpc.StatusCode.FAILED_PRECONDITION)
        return SimpleNamespace(answer=str(variables["word"])[::-1])

    def _check(self, variables: dict[str, Any]) -> None:
        unknown = [
            (f"variables.{name}", "is no variable of this program: remove it") for name in variables.keys() - {"word"}
        ]
        if unknown:
            raise refusal(*unknown)
        if "word" not in variables:
            raise refusal(("variables.word", "is missing"))


def test_bases_and_adapters() -> None:
    client = ScriptedClient()
    base, adapter = (model_of(cast(Client, client), name) for name in ("base", "dates@3"))
    assert base.say(Asked(prompt="x"), Decoding(max_tokens=8, stop=("\n",), num_paths=3, seed=1)) == ("0", "1", "2")
    adapter.say(Asked(prompt=(Turn(role="user", content="y"),)), ONE)
    (_, first), (turns, second) = client.calls
    assert (first["model"], first["stop"], first["seed"], second["model"]) == ("", ["\n"], 1, "dates@3")
    assert turns == [{"role": "user", "content": "y"}]
    assert base.score(Asked(prompt="x"), ["a", "b"])[1].is_greedy
    with pytest.raises(Refused, match="is too long"):
        base.say(Asked(prompt="long"), ONE)


def test_a_program_is_given_its_own_variables() -> None:
    client = ScriptedClient()
    program = model_of(cast(Client, client), "prompt:unscramble:canary")
    asked = Asked(prompt="", variables={"word": "abc", "label": 1, "other": 2})
    assert program.say(asked, ONE) == program.say(asked, ONE) == ("cba",)
    names = [sorted(variables) for _, variables in client.calls]
    assert names == [["label", "other", "word"], ["word"], ["word"]], "what is no variable is tried once"
    assert client.calls[0][0] == "unscramble:canary"
    with pytest.raises(Refused, match="is missing"):
        program.say(Asked(prompt="", variables={"label": 1}), ONE)


def test_a_program_that_reads_the_answer_is_refused_before_it_is_asked() -> None:
    client = ScriptedClient()
    program = model_of(cast(Client, client), "prompt:unscramble")
    question = Question(prompt="cba ->", targets=("abc",), variables={"scrambled": "cba", "word": "abc"})
    metrics = (Metric(name="exact_match"),)
    task = Task(name="words", kind=Kind.GENERATE, questions=(question,), metrics=metrics, answer_fields=("word",))
    with pytest.raises(ConfigurationError, match=r"reads `word`, which holds the answer of words.*read: scrambled"):
        evaluate([program], [task], Plan())
    assert not client.calls
    backwards = replace(task, questions=(replace(question, targets=("cba",)),), answer_fields=("scrambled",))
    (outcome,) = evaluate([program], [backwards], Plan())
    assert outcome.interval().mean == 1 and client.calls == [("unscramble", {"word": "abc"})]


def test_a_program_that_says_no_answer_was_asked() -> None:
    program = model_of(cast(Client, ScriptedClient()), "prompt:unscramble")
    with pytest.raises(Unanswered, match="no answer: there is no number in it"):
        program.say(Asked(prompt="", variables={"word": "mumble"}), ONE)


def test_the_first_failure_ends_an_evaluation() -> None:
    asked: list[int] = []

    def ask(item: int) -> int:
        asked.append(item)
        raise NotFound("no such model", code=grpc.StatusCode.NOT_FOUND)

    with pytest.raises(NotFound, match="no such model"):
        each(ask, range(1000), num_streams=2)
    assert len(asked) <= 2, "one a stream at most"
    assert each(lambda item: item * 2, range(100)) == [item * 2 for item in range(100)]


def away(seconds: float) -> Unavailable:
    told = Details(retry_after_seconds=seconds)
    return Unavailable("the engine is being replaced", code=grpc.StatusCode.UNAVAILABLE, details=told)


def test_a_server_that_replaces_its_engine_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """One line tells of it, however many questions wait."""
    left = [50] * 20

    def ask(item: int) -> int:
        left[item] -= 1
        if left[item] > 0:
            raise away(1e-4)
        return item

    assert each(ask, range(20)) == list(range(20))
    assert capsys.readouterr().err.count("the engine is being replaced (asking again for 180 s)") == 1


def test_patience_ends() -> None:
    asked: list[int] = []

    def ask(item: int) -> int:
        asked.append(item)
        raise away(0.001)

    with pytest.raises(Unavailable):
        each(ask, [1], max_wait_seconds=0.0105)
    assert len(asked) == 11


def test_a_quota_that_is_full_for_hours_is_not_waited_for() -> None:
    def ask(item: int) -> int:
        told = Details(retry_after_seconds=3600.0)
        raise ResourceExhausted("quota", code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=told)

    with pytest.raises(ResourceExhausted):
        each(ask, [1])


def test_who_waits_is_ended_by_a_failure() -> None:
    waits = Event()

    def ask(item: int) -> int:
        if item:
            waits.wait()
            raise NotFound("no such model", code=grpc.StatusCode.NOT_FOUND)
        waits.set()
        raise away(170.0)

    with pytest.raises(NotFound):
        each(ask, [0, 1])


@pytest.mark.parametrize(
    ("target", "told"), [("nowhere", "is no HOST:PORT"), ("127.0.0.1:1", "no server answers there")]
)
def test_a_server_that_is_not_there(target: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        connected(target, token=None)
