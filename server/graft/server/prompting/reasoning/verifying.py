"""A second pass: the model judges its answer, by the likelier of yes and no."""

from __future__ import annotations

import math
from dataclasses import replace

from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.reasoning.talk import PATHS_TEMPERATURE, Talk, continued
from graft.server.prompting.reasoning.task import Ended

_YES, _NO = ("Yes", "yes"), ("No", "no")
_VERDICT_TOKENS = 4


async def trust(talk: Talk, ended: Ended) -> float:
    """The probability of yes against no; 1, with a notice, where the context has no room for the question."""
    prompt, space = _question(talk.task.prompt, ended, talk.task.reasoning.verify_instruction)
    if await talk.asker.num_tokens(prompt) + _VERDICT_TOKENS > talk.asker.max_model_tokens:
        talk.note("the answer was not verified: the context has no room for it")
        return 1.0
    scores = await talk.asker.score(prompt, [space + word for word in (*_YES, *_NO)])
    probabilities = [math.exp(score.logprob) for score in scores]
    yes, no = sum(probabilities[: len(_YES)]), sum(probabilities[len(_YES) :])
    return yes / (yes + no) if yes + no else 0.5


def anew(talk: Talk) -> None:
    """What is asked from now on is sampled, and otherwise than before."""
    decoding = talk.decoding
    talk.decoding = decoding.model_copy(
        update={
            "temperature": decoding.temperature or PATHS_TEMPERATURE,
            "seed": None if decoding.seed is None else decoding.seed + 1,
        }
    )


def _question(prompt: Written, ended: Ended, instruction: str) -> tuple[Written, str]:
    """The question, and what goes between it and its answer."""
    if prompt.turns:
        said = WrittenTurn(role="assistant", content=ended.said)
        return Written(turns=(*prompt.turns, said, WrittenTurn(role="user", content=instruction))), ""
    return continued(replace(prompt, begun=ended.said), instruction, by="\n"), " "
