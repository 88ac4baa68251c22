"""What is asked of a model for each way to compare choices, over a model whose log-probabilities are written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from graft.server.engine.engine import ContinuationScore, TokenLogprob
from graft.server.errors import BadInput
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.choices.asking import ChoiceAnswer, ChoiceAsking, ChoiceQuestion, premise_of
from graft.server.prompting.choices.calibration import BatchPriors
from graft.server.prompting.choices.orders import order_effects
from graft.server.prompting.program.program import Calibration, Scoring
from tests.server.prompting.scripted import ScriptedAsker

PROMPT = Written(text="Review: fine\nSentiment:")
CHOICES = ("good", "bad")


class Model(ScriptedAsker):
    """One token per character; a continuation's log-probability is its text's, after the prompt's text or any."""

    def __init__(self, logprobs: Mapping[tuple[str, str] | str, float]) -> None:
        super().__init__(lambda prompt, path: "")
        self.logprobs = logprobs
        self.asked_after: list[str] = []

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        text = prompt.text if prompt.text is not None else prompt.turns[-1].content
        self.asked_after.append(text)
        return [self._score(text, each) for each in continuations]

    def _score(self, text: str, continuation: str) -> ContinuationScore:
        logprob = self.logprobs.get((text, continuation.strip()), self.logprobs.get(continuation.strip(), -9.0))
        characters = continuation.strip().lower()
        tokens = [TokenLogprob(token_id=ord(one), token=one, logprob=logprob / len(characters)) for one in characters]
        return ContinuationScore(tokens=tuple(tokens), is_greedy=False)


async def answered(model: Model, scoring: Scoring, **question: object) -> ChoiceAnswer:
    asked = ChoiceQuestion(**{"prompt": PROMPT, "choices": CHOICES, **question})  # type: ignore[arg-type]
    return await ChoiceAsking().ask(model, asked, scoring)


async def test_plain_scores_ask_once() -> None:
    model = Model({"good": -2.0, "bad": -1.0})
    answer = await answered(model, Scoring(), before=" ")
    assert answer.answer == "bad"
    assert [choice.probability for choice in answer.choices] == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert model.asked_after == [PROMPT.text]
    assert answer.num_tokens == 7
    assert answer.notices == ()


@pytest.mark.parametrize(("normalize", "answer"), [("sum", "bad"), ("token", "good"), ("byte", "good")])
async def test_longer_choices_are_not_held_to_their_length(normalize: str, answer: str) -> None:
    found = await answered(Model({"good": -1.2, "bad": -1.0}), Scoring.model_validate({"normalize": normalize}))
    assert found.answer == answer


async def test_unconditional_takes_off_what_follows_any_prompt() -> None:
    model = Model({"good": -2.0, "bad": -1.0, ("Answer: ", "good"): -5.0, ("Answer: ", "bad"): -1.0})
    found = await answered(model, Scoring(normalize="unconditional"))
    assert [choice.score for choice in found.choices] == pytest.approx([3.0, 0.0])
    assert model.asked_after == [PROMPT.text, "Answer: "]


async def test_a_choice_has_one_blank_in_front_of_it() -> None:
    model = Model({})
    await answered(model, Scoring(normalize="unconditional"), before=" ")
    assert model.asked_after == [PROMPT.text, "Answer:"]
    assert premise_of(PROMPT, Scoring(premise="It is "), " ").text == "It is"
    assert premise_of(PROMPT, Scoring(premise=" "), " ").text == " "


async def test_contextual_asks_each_content_free_prompt_once() -> None:
    model = Model({"good": -2.0, "bad": -1.0, ("N/A", "good"): -4.0, ("N/A", "bad"): -1.0})
    asking = ChoiceAsking()
    question = ChoiceQuestion(prompt=PROMPT, choices=CHOICES, content_free=(Written(text="N/A"),), key=("p", 1))
    for _ in range(3):
        found = await asking.ask(model, question, Scoring(calibration=Calibration.CONTEXTUAL))
        assert found.answer == "good"
    assert model.asked_after.count("N/A") == 1, "it depends on no input"
    assert model.asked_after.count(str(PROMPT.text)) == 3


async def test_what_no_key_names_is_not_remembered() -> None:
    model, asking = Model({"good": -1.0}), ChoiceAsking()
    question = ChoiceQuestion(prompt=PROMPT, choices=CHOICES, content_free=(Written(text="N/A"),))
    for _ in range(2):
        await asking.ask(model, question, Scoring(calibration=Calibration.CONTEXTUAL))
    assert model.asked_after.count("N/A") == 2


async def test_pmi_asks_the_premise() -> None:
    model = Model({"good": -2.0, "bad": -1.0, ("Sentiment:", "good"): -3.0, ("Sentiment:", "bad"): -0.5})
    found = await answered(model, Scoring(calibration=Calibration.PMI))
    assert [choice.score for choice in found.choices] == pytest.approx([1.0, -0.5])
    assert model.asked_after == [PROMPT.text, "Sentiment:"]


def test_the_premise_is_the_last_line_or_what_the_program_says() -> None:
    assert premise_of(Written(text="a\nb\n"), Scoring()).text == "b"
    assert premise_of(Written(text="\n"), Scoring()).text == "\n"
    assert premise_of(PROMPT, Scoring(premise="It is")).text == "It is"
    chat = Written(turns=(WrittenTurn(role="user", content="x\nFeeling?"),), begun="It ")
    assert premise_of(chat, Scoring()) == Written(turns=(WrittenTurn(role="user", content="Feeling?"),), begun="It ")


@pytest.mark.parametrize(
    ("question", "scoring", "field"),
    [
        ({"prompt": Written(text="Is 8 prime? A:")}, Scoring(calibration=Calibration.PMI), "scoring.premise"),
        (
            {"prompt": Written(turns=(WrittenTurn(role="user", content="Is 8 prime?"),))},
            Scoring(calibration=Calibration.PMI),
            "scoring.premise",
        ),
    ],
)
async def test_a_prompt_less_itself_is_refused_as_the_first_choice_would_always_win(
    question: dict[str, object], scoring: Scoring, field: str
) -> None:
    model = Model({})
    with pytest.raises(BadInput) as caught:
        await answered(model, scoring, **question)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert not model.asked_after


async def test_batch_calibration_begins_when_it_has_seen_enough() -> None:
    model, asking = Model({"good": -3.0, "bad": -1.0}), ChoiceAsking()
    question = ChoiceQuestion(prompt=PROMPT, choices=CHOICES, key="program")
    answers = [
        await asking.ask(model, question, Scoring(calibration=Calibration.BATCH)) for _ in range(BatchPriors.MIN_INPUTS)
    ]
    assert all("not calibrated" in answer.notices[0] for answer in answers[:-1])
    assert answers[0].answer == "bad"
    assert [choice.probability for choice in answers[-1].choices] == pytest.approx([0.5, 0.5])
    other = ChoiceQuestion(prompt=PROMPT, choices=CHOICES, key="another program")
    assert "input 1," in (await asking.ask(model, other, Scoring(calibration=Calibration.BATCH))).notices[0]


async def test_ties_and_choices_of_the_same_tokens_are_told() -> None:
    found = await answered(Model({"yes": -1.0, "YES": -1.0, "no": -1.0}), Scoring(), choices=("yes", "YES", "no"))
    assert (found.best, found.ties) == (0, (1, 2))
    assert found.notices == (
        'choices "yes" and "YES" are the same tokens to this model',
        '"yes" is as likely as "YES", "no": the first of them is the answer',
    )


@pytest.mark.parametrize(
    ("choices", "fields"),
    [
        (("a",), ["output.choices"]),
        (("a", "b", "a", "b", ""), ["output.choices[2]", "output.choices[3]", "output.choices[4]"]),
        (tuple(map(str, range(10_000))), ["output.choices"]),
    ],
)
async def test_all_that_is_wrong_is_told_at_once_and_nothing_is_asked(
    choices: tuple[str, ...], fields: list[str]
) -> None:
    model = Model({})
    with pytest.raises(BadInput) as caught:
        await answered(model, Scoring(), choices=choices)
    assert [violation.field for violation in caught.value.violations] == fields
    assert not model.asked_after


async def test_a_model_that_takes_what_stands_first_is_found_out() -> None:
    """Choices listed by letter: this model says A whatever A is."""
    model = Model({"A": -0.1, "B": -2.0, "C": -2.0})

    def asked(order: tuple[int, ...]) -> ChoiceQuestion:
        letters = tuple("ABC"[order.index(choice)] for choice in range(3))
        return ChoiceQuestion(prompt=Written(text=f"{order}"), choices=letters)

    effect = await order_effects(ChoiceAsking(), model, 3, asked, Scoring(), max_orders=8)
    assert effect.num_orders == 3
    assert effect.agreement == pytest.approx(1 / 3)
    assert effect.mean_probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert min(effect.ranges) > 0.6
