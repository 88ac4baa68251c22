"""From a written prompt to an answer, by each of the ways; the model's answers are written beforehand."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import NoAnswer, UnsupportedClaims
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.program.program import Decoding, Extraction, Output, Reasoning
from graft.server.prompting.reasoning.reasoning import reason
from graft.server.prompting.reasoning.task import Task
from tests.server.prompting.reasoning.running import run, task
from tests.server.prompting.scripted import ScriptedAsker

JUGGLER = (
    "Q: A juggler can juggle 16 balls. Half of the balls are golf balls, and half of the golf balls are blue. "
    "How many blue golf balls are there?\nA:"
)
"""Kojima et al. 2022 (arXiv:2205.11916), figure 1."""
STEPS = " There are 16 balls in total. Half of the balls are golf balls. That means that there are 8 golf balls."


async def test_direct_is_told_as_it_grows() -> None:
    asker = ScriptedAsker(lambda prompt, index: "  merci beaucoup \n")
    end, told = await run(asker, task("thanks ->", decoding=Decoding(max_tokens=40)))
    assert (end.answer, end.rationale, end.finished, end.votes) == ("merci beaucoup", "", True, ())
    assert len(told) > 3
    assert asker.asked[0].decoding == Decoding(max_tokens=40)
    assert end.cost.answer_tokens == end.cost.total_tokens


async def test_direct_extracts() -> None:
    asker = ScriptedAsker(lambda prompt, index: " merci\ncheese -> fromage\n")
    end, _ = await run(asker, task("thanks ->", extraction=Extraction(method="first_line")))
    assert end.answer == "merci"
    with pytest.raises(NoAnswer, match="number"):
        await run(ScriptedAsker(lambda *_: "none"), task("?", extraction=Extraction(method="last_number")))


async def test_two_stages_of_which_the_second_begins_with_the_first() -> None:
    """Kojima et al. 2022, figure 1 d and section 3.1."""

    def says(prompt: str, index: int) -> str:
        return " 4.\nQ: next" if prompt.endswith("the answer is") else STEPS

    asker = ScriptedAsker(says)
    end, told = await run(asker, task(JUGGLER, {"method": "chain_of_thought"}))
    first, second = asker.asked
    assert first.prompt == f"{JUGGLER} Let's think step by step."
    assert second.prompt == f"{first.prompt}{STEPS}\nTherefore, the answer is"
    assert (end.answer, end.rationale) == ("4", STEPS.strip())
    assert asker.given_up == [0], "what comes after the answer's line is not waited for"
    assert end.cost.reasoning_tokens == len(STEPS)
    assert len([growth for growth in told if growth.rationale]) > 3


async def test_a_chat_is_reasoned_about_in_the_assistants_turn() -> None:
    turns = (WrittenTurn(role="user", content="16 / 2 / 2?"),)
    asker = ScriptedAsker(lambda prompt, index: " 4" if "Therefore" in prompt else " Half of 16.")
    asked = Task(prompt=Written(turns=turns), reasoning=Reasoning(method="chain_of_thought"))
    end, _ = await run(asker, asked)
    assert asker.asked[0].prompt == "<user>16 / 2 / 2?Let's think step by step."
    assert end.answer == "4"


async def test_few_shot_reads_rationale_and_answer_apart() -> None:
    """Wei et al. 2022 (arXiv:2201.11903), figure 1."""
    said = " The cafeteria had 23 apples originally. They used 20. 23 - 20 = 3. 3 + 6 = 9. The answer is 9.\n\n"
    asker = ScriptedAsker(lambda prompt, index: said)
    marker = Extraction(method="after", marker="The answer is")
    asked = task("Q: … A:", {"method": "chain_of_thought"}, shows_rationales=True, extraction=marker)
    end, _ = await run(asker, asked)
    assert end.answer == "9"
    assert end.rationale == said.split("The answer")[0].strip()
    assert end.cost.answer_tokens == len(said) - said.index("The answer")
    assert len(asker.asked) == 1


async def test_few_shot_takes_the_last_line_as_demonstrations_write_it() -> None:
    asker = ScriptedAsker(lambda prompt, index: " 2+9+0=11;\n1+3+1=5;\n51\n")
    end, told = await run(asker, task("12+39?", {"method": "chain_of_thought"}, shows_rationales=True))
    assert (end.answer, end.rationale) == ("51", "2+9+0=11;\n1+3+1=5;")
    assert [growth.rationale for growth in told if growth.rationale] == ["2+9+0=11;", "\n1+3+1=5;"]


@pytest.mark.parametrize("shows_rationales", [True, False])
async def test_the_rationale_is_withheld(shows_rationales: bool) -> None:
    asker = ScriptedAsker(lambda prompt, index: " because\nyes")
    reasoning = {"method": "chain_of_thought", "withhold": True}
    end, told = await run(asker, task("?", reasoning, shows_rationales=shows_rationales))
    assert (end.rationale, [growth.rationale for growth in told if growth.rationale]) == ("", [])
    assert end.cost.reasoning_tokens > 0


async def test_nothing_is_told_of_an_answer_that_is_not_accepted() -> None:
    def accept(answer: str) -> None:
        if "cheese" in answer:
            raise UnsupportedClaims("the moon is no cheese")

    told: list[object] = []
    with pytest.raises(UnsupportedClaims):
        async for event in reason(ScriptedAsker(lambda *_: "It is cheese."), task("?", accept=accept)):
            told.append(event)
    assert told == []
    end, growths = await run(ScriptedAsker(lambda *_: "It is rock."), task("?", accept=accept))
    assert (end.answer, len(growths)) == ("It is rock.", 1)


@pytest.mark.parametrize("paths", [1, 3])
@pytest.mark.parametrize("method", ["chain_of_thought", "program_of_thought"])
async def test_an_error_withholds_it_too(method: str, paths: int) -> None:
    asked = {"method": method, "paths": paths, "withhold": True}
    for extraction in (Extraction(method="last_number"), Extraction(method="after", marker="###")):
        with pytest.raises(NoAnswer) as refusal:
            asker = ScriptedAsker(lambda prompt, index: "secret thoughts")
            await run(asker, task("?", asked, shows_rationales=True, extraction=extraction))
        assert "secret" not in str(refusal.value)


CONSTRAINED = [
    Output(type="json_schema", json_schema={"type": "object"}),
    Output(type="regex", regex="[0-9]+ balls"),
]


@pytest.mark.parametrize("output", CONSTRAINED)
@pytest.mark.parametrize("shows_rationales", [True, False])
async def test_only_the_answer_follows_the_contract(output: Output, shows_rationales: bool) -> None:
    answers = {"json_schema": ' {"n": 4}', "regex": "4 balls"}

    def says(prompt: str, index: int) -> str:
        return answers[output.type] if len(asker.asked) == 2 else " 16 / 2 = 8, 8 / 2 = 4\nfour"

    asker = ScriptedAsker(says)
    asked = task(JUGGLER, {"method": "chain_of_thought"}, shows_rationales=shows_rationales, output=output)
    end, _ = await run(asker, asked)
    assert end.answer == answers[output.type].strip()
    assert [call.output for call in asker.asked] == [None, output]
    assert "16 / 2 = 8" in end.rationale


async def test_a_contract_that_is_kept_already_needs_no_second_stage() -> None:
    asker = ScriptedAsker(lambda prompt, index: "half, half\n4 balls")
    output = Output(type="regex", regex="[0-9]+ balls")
    end, _ = await run(asker, task("?", {"method": "chain_of_thought"}, shows_rationales=True, output=output))
    assert (end.answer, len(asker.asked)) == ("4 balls", 1)


async def test_choices_are_scored_after_the_reasoning() -> None:
    asker = ScriptedAsker(
        lambda prompt, index: " They were coughing, so no.",
        likes=lambda prompt, said: {" yes": 0.2, " no": 0.7}[said] if "coughing" in prompt else 0.5,
    )
    output = Output(type="choices", choices=("yes", "no"))
    end, _ = await run(asker, task("Q? A:", {"method": "chain_of_thought"}, output=output))
    assert end.answer == "no"
    assert asker.scored[0].endswith("so no.\nTherefore, the answer is")
    assert end.cost.answer_tokens == 0


async def test_choices_by_the_callers_way() -> None:
    async def choose(prompt: Written) -> str:
        return "maybe"

    output = Output(type="choices", choices=("yes", "maybe"))
    asker = ScriptedAsker(lambda prompt, index: "")
    for reasoning in ({}, {"method": "chain_of_thought"}, {"paths": 3}):
        end, _ = await run(asker, task("Q? A:", reasoning, output=output, choose=choose))
        assert end.answer == "maybe"


async def test_least_to_most() -> None:
    """Zhou et al. 2022 (arXiv:2205.10625), figure 1."""
    problem = (
        "It takes Amy 4 minutes to climb to the top of a slide. It takes her 1 minute to slide down. The water slide "
        "closes in 15 minutes. How many times can she slide before it closes?"
    )
    first, second = "How long does each trip take?", "How many times can she slide before it closes?"

    def says(prompt: str, index: int) -> str:
        if prompt.endswith("problem:"):
            return f"\n1. {first}\n2. {second}"
        if prompt.endswith(f"Q: {first}\nA:"):
            return " Each trip takes 4 + 1 = 5 minutes.\nQ: more"
        if prompt.endswith(f"Q: {second}\nA:"):
            return " She can slide 15 / 5 = 3 times."
        return " 3."

    asker = ScriptedAsker(says)
    end, _ = await run(asker, task(problem, {"method": "least_to_most"}))
    assert end.answer == "3"
    assert [call.prompt for call in asker.asked] == sorted((call.prompt for call in asker.asked), key=len)
    for shorter, longer in zip(asker.asked, asker.asked[1:], strict=False):
        assert longer.prompt.startswith(shorter.prompt), "each stage finds the one before in the prefix cache"
    assert end.rationale.startswith(f"1. {first}") and end.rationale.endswith("3 times.")


async def test_least_to_most_is_bounded_and_always_answers() -> None:
    many = "\n".join(f"{index}. Why {index}?" for index in range(1, 30))
    asker = ScriptedAsker(lambda prompt, index: many if prompt.endswith("problem:") else " so")
    end, _ = await run(asker, task("?", {"method": "least_to_most"}))
    assert len(asker.asked) == 1 + 8 + 1
    assert any("29 easier questions" in notice for notice in end.notices)
    asker = ScriptedAsker(lambda prompt, index: " I do not know")
    end, _ = await run(asker, task("?", {"method": "least_to_most"}))
    assert end.answer == "I do not know" and any("no easier question" in notice for notice in end.notices)


async def test_program_of_thought_computes_what_the_model_writes() -> None:
    asker = ScriptedAsker(lambda prompt, index: "eggs = 16 - 3 - 4\nans = eggs * 2\n19")
    for shows_rationales in (True, False):
        asked = task("Q:\n", {"method": "program_of_thought"}, shows_rationales=shows_rationales)
        end, _ = await run(asker, asked)
        assert end.answer == "18", "and not what the model takes for it"
        assert end.rationale.startswith("eggs = 16")
    assert "one assignment on each line" in asker.asked[1].prompt and asker.asked[0].prompt == "Q:\n"
    with pytest.raises(NoAnswer, match="line 1"):
        await run(ScriptedAsker(lambda *_: "import os"), asked)


async def test_program_of_thought_within_a_contract() -> None:
    asker = ScriptedAsker(lambda prompt, index: "9 * 2", likes=lambda prompt, said: 0.9 if said == " (b) 18" else 0.1)
    output = Output(type="choices", choices=("(a) 17", "(b) 18"))
    end, _ = await run(asker, task("Q:\n", {"method": "program_of_thought"}, output=output))
    assert end.answer == "(b) 18"
    assert asker.scored[0].endswith("9 * 2\nTherefore, the answer is 18, that is")


@given(st.text("ab \n", max_size=40), st.sampled_from(["direct", "chain_of_thought", "least_to_most"]), st.booleans())
def test_what_is_told_on_the_way_is_the_result(text: str, method: str, shows_rationales: bool) -> None:
    """`run` compares them, whatever spaces and lines there are."""

    async def once() -> None:
        asker = ScriptedAsker(lambda prompt, index: text, step=1)
        try:
            end, _ = await run(asker, task("Q:", {"method": method}, shows_rationales=shows_rationales))
        except NoAnswer:
            assert not text.strip()
        else:
            assert end.answer == end.answer.strip()

    asyncio.run(once())
