"""The lectures' worked examples as programs on the shipped base: what is rendered, and what kind of answer comes back.

Where the base can do a thing the answer is right, too; it cannot do all of them (see `graft tour prompting`).
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from graft.client import Client

LINE = {"max_tokens": 24, "stop": ["\n"], "temperature": 0}
REVERSED = (("cat", "tac"), ("melon", "nolem"), ("bird", "drib"), ("stone", "enots"))


def arrows(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    """`this -> that`, one a line, and an open line."""
    shown = [{"inputs": {"text": text}, "output": output} for text, output in pairs]
    return {"prompt": "{{demonstrations}}\n{{text}} ->", "demonstrations": shown, "decoding": LINE, **more}


def rendered(client: Client, program: dict[str, Any], variables: dict[str, str], **more: Any) -> str:
    """What the base reads."""
    return "".join(part.text for part in client.preview_prompt(program=program, variables=variables, **more).parts)


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("zero_shot", ""),
        ("one_shot", "cat -> tac\n"),
        ("few_shot", "cat -> tac\nmelon -> nolem\nbird -> drib\nstone -> enots\n"),
    ],
)
def test_zero_one_and_few_shot(client: Client, mode: str, shown: str) -> None:
    program, asked = arrows(*REVERSED, mode=mode), {"text": "water"}
    assert rendered(client, program, asked) == f"{shown}water ->"
    ran = client.run_prompt(program=program, variables=asked)
    assert len(ran.shown_demonstrations) == shown.count("\n")
    assert (ran.answer == "retaw") == (mode != "zero_shot")


def test_completion_in_a_lexicon(client: Client) -> None:
    """`thanks -> merci, hello ->`: a translation that no example holds, and an ending that all of them show."""
    french = arrows(("thanks", "merci"))
    assert rendered(client, french, {"text": "hello"}) == "thanks -> merci\nhello ->"
    assert client.run_prompt(program=french, variables={"text": "hello"}).answer
    invented = arrows(*((word, f"{word}du") for word in ("thanks", "garden", "music", "river")))
    assert client.run_prompt(program=invented, variables={"text": "hello"}).answer == "hellodu"


def test_dates_in_an_invented_format(client: Client) -> None:
    """The base answers in a format of its own training; a larger one would say `!06!01!2014!`."""
    days = (("1999-12-24", "!12!24!1999!"), ("2008-03-05", "!03!05!2008!"), ("1987-11-30", "!11!30!1987!"))
    asked = {"text": "2014-06-01"}
    shown = "1999-12-24 -> !12!24!1999!\n2008-03-05 -> !03!05!2008!\n1987-11-30 -> !11!30!1987!\n2014-06-01 ->"
    assert rendered(client, arrows(*days), asked) == shown
    ran = client.run_prompt(program=arrows(*days), variables=asked)
    assert ran.answer and ran.usage.prompt_tokens == len(client.tokenize(shown).token_ids)
    form = {"output": {"type": "regex", "regex": r"!\d{2}!\d{2}!\d{4}!"}}
    assert re.fullmatch(
        r"!\d{2}!\d{2}!\d{4}!", client.run_prompt(program=arrows(*days, **form), variables=asked).answer
    )
    known = arrows(("1999-12-24", "12/24/1999"), ("2008-03-05", "03/05/2008"))
    assert client.run_prompt(program=known, variables=asked).answer == "06/01/2014"


def test_unscrambling(client: Client) -> None:
    program = arrows(*((scrambled, word) for word, scrambled in REVERSED))
    assert rendered(client, program, {"text": "retaw"}).endswith("enots -> stone\nretaw ->")
    assert client.run_prompt(program=program, variables={"text": "retaw"}).answer == "water"


def test_premise_and_hypothesis(client: Client) -> None:
    """A delimiter for each part; the answer is one of three, whatever the base knows."""
    program = {
        "prompt": "{{demonstrations}}\nPremise: {{premise}}\nHypothesis: {{hypothesis}}\nAnswer:",
        "demonstrations": [
            {"inputs": {"premise": "Tom had a red kite.", "hypothesis": "Tom had a kite."}, "output": "true"}
        ],
        "output": {"type": "choices", "choices": ["true", "maybe", "false"]},
    }
    asked = {"premise": "Zoe lived by the sea.", "hypothesis": "Zoe did not live by the sea."}
    assert rendered(client, program, asked) == (
        "Premise: Tom had a red kite.\nHypothesis: Tom had a kite.\nAnswer: true\n"
        "Premise: Zoe lived by the sea.\nHypothesis: Zoe did not live by the sea.\nAnswer:"
    )
    result = client.run_prompt(program=program, variables=asked).result
    assert {one.choice for one in result.choices} == {"true", "maybe", "false"}
    assert sum(one.probability for one in result.choices) == pytest.approx(1)


def test_chain_of_thought_and_self_consistency(client: Client) -> None:
    """What the base cannot say at once it works out, and sampled paths agree on it."""
    direct = {
        "prompt": "{{demonstrations}}\n{{sum}}=",
        "demonstrations": [{"inputs": {"sum": "412+305"}, "output": "717"}],
        "demonstrating": {"before_answer": ""},
        "decoding": LINE,
    }
    worked = {
        "prompt": "{{demonstrations}}\n{{sum}}?",
        "demonstrations": [{"inputs": {"sum": "412+305"}, "rationale": "2+5+0=7;1+0+0=1;4+3+0=7;", "output": "717"}],
        "demonstrating": {"answer": "{{rationale}} {{output}}"},
        "reasoning": {"method": "chain_of_thought"},
        "extraction": {"method": "after", "marker": ";"},
        "decoding": {"max_tokens": 80, "stop": ["\n"]},
    }
    asked = {"sum": "269+973"}
    assert rendered(client, worked, asked) == "412+305? 2+5+0=7;1+0+0=1;4+3+0=7; 717\n269+973?"
    assert client.run_prompt(program=direct, variables=asked).answer != "1242"
    ran = client.run_prompt(program=worked, variables=asked, temperature=0)
    assert (ran.answer, ran.rationale) == ("1242", "9+3+0=12;6+7+1=14;2+9+1=12")
    voting = {**worked, "reasoning": {**worked["reasoning"], "paths": 9, "stop_early": False}}  # type: ignore[dict-item]
    polled = client.run_prompt(program=voting, variables=asked, temperature=1.3, seed=1)
    assert polled.answer == "1242" == polled.result.votes[0].answer
    assert 3 <= polled.result.votes[0].num_paths <= sum(one.num_paths for one in polled.result.votes) <= 9


def test_calibrated_choices_say_nothing_of_nothing(client: Client) -> None:
    """Zhao et al. 2021: W = diag(p_cf)⁻¹ makes the content-free input's answer uniform, and no other one."""
    reviews = ("a warm and clever film", "full of wit", "one of the best dramas of the year", "the cast shines")
    pairs = [(review, "positive") for review in reviews]
    output = {"output": {"type": "choices", "choices": ["negative", "positive"]}}
    raw = arrows(*pairs, **output)
    calibrated = arrows(*pairs, **output, scoring={"calibration": "contextual", "content_free": ["N/A"]})
    nothing, review = {"text": "N/A"}, {"text": "a dull and silly story"}
    assert [one.probability for one in client.run_prompt(program=raw, variables=nothing).result.choices] != (
        pytest.approx([0.5, 0.5], abs=0.01)
    )
    even = client.run_prompt(program=calibrated, variables=nothing).result.choices
    assert [one.probability for one in even] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert client.run_prompt(program=calibrated, variables=review).answer == "negative"


def test_an_answer_from_documents(client: Client) -> None:
    """Passages are numbered into the prompt; a marker with none behind it is found out."""
    documents = [{"id": "a", "text": "The museum opens at nine."}, {"id": "b", "text": "The market opens at six."}]
    said = r"The museum opens at nine \[1\]\. It is free \[7\]\."
    program = {
        "prompt": "{{sources}}\nQ: {{question}}\nA:",
        "sourcing": {"count": 2},
        "output": {"type": "regex", "regex": said},
        "decoding": {"max_tokens": 60},
    }
    asked = {"question": "When does the museum open?"}
    shown = rendered(client, program, asked, documents=documents)
    assert shown.index("[1]") < shown.index("The museum opens at nine.") < shown.index("[2]") < shown.index("market")
    result = client.run_prompt(program=program, variables=asked, documents=documents).result
    assert [(one.marker, one.exists) for one in result.citations] == [(1, True), (7, False)]
    assert list(result.unsupported_sentences) == ["It is free [7]."]
