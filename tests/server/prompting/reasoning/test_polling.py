"""Paths that vote, what they cost, and answers that are made anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import BadInput, NoAnswer, Violation
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.program.program import Decoding, Extraction, Output, Reasoning
from graft.server.prompting.reasoning.reasoning import reason
from graft.server.prompting.reasoning.task import Growth, Task
from tests.server.prompting.reasoning.running import run, task
from tests.server.prompting.scripted import ScriptedAsker, whole

LAST_NUMBER = Extraction(method="last_number")


def few_shot(reasoning: dict[str, Any], **fields: Any) -> Task:
    return task("Q:", {"method": "chain_of_thought", **reasoning}, shows_rationales=True, **fields)


async def test_the_papers_three_paths() -> None:
    """Wang et al. 2022 (arXiv:2203.11171), figure 1."""
    said = [
        "She has 16 - 3 - 4 = 9 eggs left. So she makes $2 * 9 = $18 per day. The answer is $18.",
        "This means she sells the remainder for $2 * (16 - 4 - 3) = $26 per day. The answer is $26.",
        "So she has 16 - 3 = 13. 13 - 4 = 9 eggs. So she has 9 eggs * $2 = $18.0. The answer is $18.0.",
    ]
    asker = ScriptedAsker(lambda prompt, index: said[index])
    end, _ = await run(asker, few_shot({"paths": 3}, extraction=LAST_NUMBER))
    assert [(vote.answer, vote.num_paths) for vote in end.votes] == [("18", 2), ("26", 1)]
    assert end.answer == "18" and end.rationale.startswith("She has 16 - 3 - 4 = 9")
    (asked,) = asker.asked
    assert (asked.num_paths, asked.decoding.temperature) == (3, 0.7)
    assert not asked.with_logprob


async def test_paths_under_way_are_given_up_once_the_vote_is_decided() -> None:
    short, long = "7", "so it is, after all, " * 50 + "8"
    asker = ScriptedAsker(lambda prompt, index: short if index % 2 else long)
    end, _ = await run(asker, few_shot({"paths": 5, "stop_early": True}))
    assert end.answer == long.strip() or asker.given_up == []
    # Seven paths of which four agree early.
    asker = ScriptedAsker(lambda prompt, index: short if index < 4 else long)
    end, _ = await run(asker, few_shot({"paths": 7}))
    assert (end.answer, asker.given_up) == ("7", [4, 5, 6])
    assert any("decided after 4 of 7" in notice for notice in end.notices)
    asker = ScriptedAsker(lambda prompt, index: short if index < 4 else long)
    end, _ = await run(asker, few_shot({"paths": 7, "stop_early": False}))
    assert asker.given_up == [] and sum(vote.num_paths for vote in end.votes) == 7


@given(st.lists(st.sampled_from(["1", "22", "333", "words only", ""]), min_size=2, max_size=8))
def test_stopping_early_never_changes_the_winner(said: list[str]) -> None:
    """Short paths end first, whatever their index."""

    async def winner(stop_early: bool) -> str | None:
        asker = ScriptedAsker(lambda prompt, index: said[index], step=1)
        reasoning = {"paths": len(said), "stop_early": stop_early}
        try:
            end, _ = await run(asker, few_shot(reasoning, extraction=LAST_NUMBER))
        except NoAnswer:
            return None
        return end.answer

    assert asyncio.run(winner(True)) == asyncio.run(winner(False))


async def test_votes_weigh_the_probability_of_a_paths_tokens() -> None:
    said = ["one 1", "one 1", "two 2"]
    asker = ScriptedAsker(lambda prompt, index: said[index], likes=lambda prompt, text: 0.9 if "2" in text else 0.3)
    end, _ = await run(asker, few_shot({"paths": 3, "vote": "weighted"}, extraction=LAST_NUMBER))
    assert end.answer == "2"
    assert [vote.weight for vote in end.votes] == pytest.approx([0.9, 0.6])
    assert asker.asked[0].with_logprob


async def test_each_path_of_two_stages_votes_as_soon_as_it_has_an_answer() -> None:
    def says(prompt: str, index: int) -> str:
        if not prompt.endswith("answer is"):
            return f"path {index}" + " and on" * 100 * (index > 2)
        return " 5" if "path 1" not in prompt else " none"

    asker = ScriptedAsker(says)
    reasoning = {"method": "chain_of_thought", "paths": 3}
    end, _ = await run(asker, task("Q:", reasoning, extraction=LAST_NUMBER))
    assert end.answer == "5" and end.rationale == "path 0"
    assert len(asker.asked) == 1 + 3 and asker.asked[0].num_paths == 3
    assert any("1 of 3 paths had no answer" in notice for notice in end.notices)


async def test_no_path_has_an_answer() -> None:
    with pytest.raises(NoAnswer, match="none of 4 paths"):
        await run(ScriptedAsker(lambda *_: "?"), few_shot({"paths": 4}, extraction=LAST_NUMBER))


async def test_what_the_asker_raises_is_raised_as_it_is() -> None:
    asker = ScriptedAsker(lambda *_: "1", max_model_tokens=2)
    with pytest.raises(BadInput, match="do not fit"):
        await run(asker, few_shot({"paths": 4}))


async def test_at_temperature_zero_all_paths_are_one() -> None:
    asker = ScriptedAsker(lambda *_: "1")
    end, _ = await run(asker, few_shot({"paths": 4}, decoding=Decoding(temperature=0)))
    assert asker.asked[0].num_paths == 1 and any("temperature 0" in notice for notice in end.notices)


METHODS = ["direct", "chain_of_thought", "least_to_most", "program_of_thought"]


@pytest.mark.parametrize("paths", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 10, 30, 100, 300, 1000])
async def test_a_budget_ends_in_an_answer_or_in_what_was_missing(
    paths: int, method: str, verify: bool, budget: int
) -> None:
    num_lines = 2 if method == "program_of_thought" else 20

    def says(prompt: str, index: int) -> str:
        return "\n1. Why 6?\n2. Why 7?\n" if prompt.endswith("problem:") else "6 * 7\n" * num_lines

    asker = ScriptedAsker(says, likes=lambda prompt, said: 0.9 if "o" in said else 0.1)
    reasoning = {"method": method, "paths": paths, "verify": verify, "max_tokens": budget}
    try:
        end, _ = await run(asker, task("Q:", reasoning, extraction=LAST_NUMBER))
    except (NoAnswer, BadInput) as error:
        assert budget < 100, "with room there is an answer"
        assert str(error)
    else:
        assert end.answer
    assert asker.num_generated <= budget


async def test_a_budget_that_is_less_than_the_paths_is_refused_before_anything_is_asked() -> None:
    asker = ScriptedAsker(lambda *_: "1")
    with pytest.raises(BadInput, match=r"reasoning\.max_tokens: 3 tokens.* 4 path"):
        await run(asker, few_shot({"paths": 4, "max_tokens": 3}))
    assert asker.asked == []


@pytest.mark.parametrize("method", METHODS)
async def test_every_stage_fits_the_context(method: str) -> None:
    def says(prompt: str, index: int) -> str:
        return "\n1. Why 6?\n2. Why 7?\n" * 9 if prompt.endswith("problem:") else "6 * 7\n" * 500

    for context in (150, 200, 400, 1000):
        asked = run(ScriptedAsker(says, max_model_tokens=context), task("Q:", {"method": method}))
        if method == "program_of_thought":
            with pytest.raises(NoAnswer, match="cut where its room ended"):
                await asked
        else:
            end, _ = await asked
            assert end.answer
    with pytest.raises(BadInput, match="prompt"):
        await run(ScriptedAsker(says, max_model_tokens=10), task("Q: how many is that?", {"method": method}))


async def test_an_answer_that_is_judged_right_stays() -> None:
    asker = ScriptedAsker(lambda *_: " 4", likes=lambda prompt, said: 0.6 if said.strip().lower() == "yes" else 0.1)
    end, told = await run(asker, task("2 + 2 =", {"verify": True}))
    assert (end.answer, len(asker.asked), end.notices) == ("4", 1, ())
    assert asker.scored == ["2 + 2 = 4\nIs the answer above right? Say yes or no."]
    assert len(told) == 1, "nothing is told that may be taken back"


async def test_an_answer_that_is_rejected_is_made_anew_once() -> None:
    def likes(prompt: str, said: str) -> float:
        return 0.9 if ("yes" in said.lower()) == (" 4\n" in prompt) else 0.1

    asker = ScriptedAsker(lambda *_: " 5" if len(asker.asked) == 1 else " 4", likes=likes)
    end, _ = await run(asker, task("2 + 2 =", {"verify": True}, decoding=Decoding(temperature=0, seed=1)))
    assert end.answer == "4" and any("rejected a first" in notice for notice in end.notices)
    again = asker.asked[1].decoding
    assert (again.temperature, again.seed) == (0.7, 2)
    asker = ScriptedAsker(lambda *_: " 5" if len(asker.asked) == 1 else " 6", likes=likes)
    end, _ = await run(asker, task("2 + 2 =", {"verify": True}))
    assert len(asker.asked) == 2 and any("rejects both" in notice for notice in end.notices)


async def test_a_chat_is_verified_by_a_turn() -> None:
    asker = ScriptedAsker(lambda *_: "4")
    turns = (WrittenTurn(role="user", content="2+2?"),)
    await run(asker, Task(prompt=Written(turns=turns), reasoning=Reasoning(verify=True)))
    assert asker.scored == ["<user>2+2?<assistant>4<user>Is the answer above right? Say yes or no."]


@pytest.mark.parametrize("reasoning", [{}, {"method": "chain_of_thought"}, {"method": "least_to_most"}, {"paths": 3}])
async def test_closing_gives_up_every_path(reasoning: dict[str, Any]) -> None:
    asker = ScriptedAsker(lambda *_: "word " * 100)
    events = reason(asker, task("Q:", reasoning))
    if "paths" in reasoning:
        reader = asyncio.ensure_future(anext(events))
        for _ in range(20):
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert asker.given_up == [0, 1, 2]
    else:
        assert isinstance(await anext(events), Growth)
        await events.aclose()
        assert asker.given_up == [0]


async def test_choices_with_verification_are_only_scored() -> None:
    asker = ScriptedAsker(lambda *_: "?", likes=lambda prompt, said: 0.9 if said == " b" else 0.1)
    output = Output(type="choices", choices=("a", "b"))
    end, _ = await run(asker, task("Q:", {"verify": True, "paths": 2}, output=output))
    assert end.answer == "b" and asker.asked == [] and end.notices


YES_OR_NO = Output(type="choices", choices=("yes", "no, not at all"))


@pytest.mark.parametrize("shows_rationales", [True, False])
@pytest.mark.parametrize("max_model_tokens", [120, 200])
async def test_reasoning_that_never_ends_leaves_room_to_compare_the_choices(
    shows_rationales: bool, max_model_tokens: int
) -> None:
    asker = ScriptedAsker(lambda prompt, index: "x" * 1000, max_model_tokens=max_model_tokens)
    asked = task("Q: so? A:", {"method": "chain_of_thought"}, shows_rationales=shows_rationales, output=YES_OR_NO)
    end, _ = await run(asker, asked)
    assert end.answer == "yes" and set(end.rationale) <= {"x"}


async def test_a_longer_prompt_that_choices_are_compared_after_has_room_too() -> None:
    prompts: list[Written] = []

    async def choose(prompt: Written) -> str:
        longer = Written(text=f"{'nothing at all, ':.<40}{prompt.text}", begun=prompt.begun)
        prompts.append(longer)
        await asker.score(longer, [" no, not at all"])
        return "yes"

    asker = ScriptedAsker(lambda prompt, index: "x" * 1000, max_model_tokens=200)
    reasoning = {"method": "chain_of_thought"}
    await run(asker, task("Q: so? A:", reasoning, output=YES_OR_NO, choose=choose, choosing_tokens=40))
    assert len(prompts) == 1


async def test_a_path_whose_choices_cannot_be_compared_does_not_vote() -> None:
    async def choose(prompt: Written) -> str:
        if "odd" in prompt.begun:
            raise BadInput(Violation(field="variables", problem="make a prompt of too many tokens"))
        return "yes"

    reasoning = {"method": "chain_of_thought", "paths": 3, "stop_early": False}
    asked = task("Q: so? A:", reasoning, output=YES_OR_NO, choose=choose)
    end, _ = await run(ScriptedAsker(lambda prompt, index: " odd" if index == 0 else " even"), asked)
    assert [(vote.answer, vote.num_paths) for vote in end.votes] == [("yes", 2)]
    assert end.notices == ("1 of 3 paths had no answer and did not vote",)
    with pytest.raises(BadInput, match="too many tokens"):
        await run(ScriptedAsker(lambda prompt, index: " odd"), asked)


async def test_what_the_reasoning_grows_to_beyond_its_tokens_is_no_fault_of_the_callers() -> None:
    """A cut character is written as a replacement of more tokens than it was made of."""
    asker = ScriptedAsker(lambda prompt, index: "x" * 1000, max_model_tokens=120)
    asker.num_tokens = lambda prompt: _counted(prompt, 3)  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="comparing the choices takes"):
        await run(asker, task("Q: so?", {"method": "chain_of_thought"}, output=YES_OR_NO))


async def _counted(prompt: Written, tokens_of_x: int) -> int:
    text = whole(prompt)
    return len(text) + text.count("x") * (tokens_of_x - 1)
