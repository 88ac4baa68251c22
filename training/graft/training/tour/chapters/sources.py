"""Documents in the prompt, and citations that are checked."""

from __future__ import annotations

from random import Random

from graft.client import PromptRun
from graft.training.rootstock.corpus import sentiment, stories
from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import share_is
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import Marks, accuracy

NUM_DOCUMENTS = 3


def citations(room: Classroom) -> Chapter:
    """Whether the base cites, and whether the server sees what is wrong with a citation."""
    asked = [[_question(room, run, index) for index in range(room.per_run)] for run in range(room.num_runs)]
    cited = _marks(room, asked, _is_supported)
    right = [[_said(one, wrong=False) for one in run] for run in asked]
    forged = [[_said(one, wrong=True) for one in run] for run in asked]
    accepted, caught = _marks(room, right, _is_supported), _marks(room, forged, _is_flagged)
    return Chapter(
        title="Answers with sources",
        lecture="Documents in the prompt against hallucination and old knowledge: but is a citation right?",
        figures={
            "cited_rightly": accuracy(cited),
            "citations_accepted": accuracy(accepted),
            "forgeries_caught": accuracy(caught),
        },
        claims=(
            share_is("The base answers with a citation that supports the answer.", cited, at_least=80),
            share_is("The check accepts answers that cite the right passage.", accepted, at_least=80),
            share_is("The check flags answers that cite a passage that is not there.", caught, at_least=80),
        ),
        examples=(room.example(asked[0][0]),),
        remark="For the last two, what is said is given by a pattern: they show the server's check, not the base.",
    )


def _question(room: Classroom, run: int, index: int) -> Question:
    rng = Random(f"{room.seed}/sources/{run}/{index}")
    names, things = rng.sample(stories.NAMES, NUM_DOCUMENTS), rng.sample(stories.THINGS, NUM_DOCUMENTS)
    texts = [f"{name} had {sentiment.article(thing)}." for name, thing in zip(names, things, strict=True)]
    documents = tuple({"id": name, "text": text} for name, text in zip(names, texts, strict=True))
    name, text = rng.choice(list(zip(names, texts, strict=True)))
    program = {
        "prompt": "{{sources}}\n{{demonstrations}}\nQ: What had {{name}}?\nA:",
        "demonstrations": [
            {"inputs": {"name": "Zoe"}, "output": "Zoe had a hat [1]."},
            {"inputs": {"name": "Max"}, "output": "Max had a cup [2]."},
        ],
        "sourcing": {"query": "{{name}}", "count": NUM_DOCUMENTS},
        "decoding": {"max_tokens": 40, "stop": ["\n"], "temperature": 0.0},
    }
    return Question(program=program, variables={"name": name}, right=text, documents=documents)


def _said(question: Question, *, wrong: bool) -> Question:
    """The same, where a pattern leaves one answer only: citing the first passage, which is the nearest, or a ninth."""
    said = f"{question.right.rstrip('.')} [{9 if wrong else 1}]."
    pattern = said.replace("[", r"\[").replace("]", r"\]").replace(".", r"\.")
    program = {**question.program, "output": {"type": "regex", "regex": pattern}}
    return Question(program=program, variables=question.variables, right=said, documents=question.documents)


def _marks(room: Classroom, runs: list[list[Question]], judge: object) -> Marks:
    answers = iter(room.runs([one for run in runs for one in run], about="sources"))
    return [[bool(judge(next(answers))) for _ in run] for run in runs]  # type: ignore[operator]


def _is_supported(run: PromptRun | None) -> bool:
    """It cites, every citation exists, and no sentence is left unsupported."""
    if run is None:
        return False
    found = list(run.result.citations)
    return bool(found) and all(one.exists for one in found) and not run.result.unsupported_sentences


def _is_flagged(run: PromptRun | None) -> bool:
    if run is None:
        return False
    return any(not one.exists for one in run.result.citations) and bool(run.result.unsupported_sentences)
