"""What a chain claims rests on every answer: none that a grader failed on is taken for a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from graft.client import Choice, Client, Generation, Observation
from graft.training.chain.measuring import measured
from graft.training.chain.settings import ChainSettings
from graft.training.reinforce.asking.grader_faults import GradersFailed
from graft.training.reinforce.asking.questions import Questions
from graft.training.reinforce.asking.sampler import Prompt
from graft.v1 import common_pb2, grading_pb2, inference_pb2


class OneFault:
    """A server whose grader fails on one answer of many."""

    def generate(self, prompt: Any, *, num_choices: int, **_: Any) -> Generation:
        logprob = inference_pb2.TokenLogprob(logprob=-1.0)
        said = Choice(text="a", token_ids=(1,), logprobs=(logprob,), finish_reason="stop")
        answerer = common_pb2.Answerer(version_digest="sha256:x")
        return Generation(id="1", answerer=answerer, choices=(said,) * num_choices, usage=inference_pb2.Usage())

    def grade(self, grader: Any, answers: Sequence[Observation], **_: Any) -> list[grading_pb2.Grade]:
        fault = grading_pb2.GradeFault(grader="reward", details="the engine was away")
        return [grading_pb2.Grade(reward=0.5, faults=[fault][:number]) for number in (1, *[0] * (len(answers) - 1))]

    def score(self, prompt: Any, texts: Sequence[Any], **_: Any) -> inference_pb2.ScoreResponse:
        return inference_pb2.ScoreResponse(scores=[inference_pb2.ContinuationScore(logprob=-1.0) for _ in texts])


def test_an_answer_that_was_not_graded_is_no_number() -> None:
    questions = Questions(items=[{}] * 20, prompts=[Prompt(row=row, ids=(1,)) for row in range(20)])
    with pytest.raises(GradersFailed, match="the engine was away"):
        measured(
            cast(Client, OneFault()), questions, ChainSettings(), grader={}, supervised="ft:first", policy="ft:last"
        )
