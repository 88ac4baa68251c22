import argparse
import datetime
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from graft.training.commands import corpus
from graft.training.rootstock.corpus import arithmetic, dates, demo, rules
from graft.training.rootstock.corpus.mixture import ROOTSTOCK, Document
from graft.training.rootstock.corpus.sentiment import LABELS, review
from graft.training.rootstock.corpus.words import is_held_out

SUM = re.compile(r"(?<![\d+])(\d+\+\d+)(?=[=?])")


def documents(count: int, seed: int = 0) -> Iterator[Document]:
    return islice(ROOTSTOCK.documents(Random(seed)), count)


def test_no_document_asks_for_a_held_out_sum() -> None:
    sums = [pair for document in documents(4000) for pair in SUM.findall(document.text)]
    assert len(sums) > 2000
    assert not [pair for pair in sums if is_held_out(pair)]


def test_no_document_asks_about_a_held_out_word() -> None:
    shown = [
        line.split(" -> ")[0]
        for document in documents(4000)
        if document.kind == "rules"
        for line in document.text.splitlines()
    ]
    patterns = [
        re.escape(rule.instruction).replace(r"\{word\}", "([a-z]+)") for rule in rules.RULES if rule.instruction
    ]
    patterns += [r"Which letter does ([a-z]+) begin with", r"^([a-z]+) ->"]
    for document in documents(4000):
        if document.kind in ("chat", "questions"):
            shown += [word for pattern in patterns for word in re.findall(pattern, document.text, re.MULTILINE)]
    assert len(shown) > 5000
    assert not [word for word in shown if is_held_out(word)]


def test_questions_are_about_held_out_instances() -> None:
    for seed in range(50):
        prompt, _ = rules.prompt(rules.RULES[0], Random(seed), num_examples=4)
        *shown, asked = [line.split(" ->")[0] for line in prompt.splitlines()]
        assert is_held_out(asked) and not any(map(is_held_out, shown)) and len(shown) == 4
        sum_prompt, answer = arithmetic.prompt(Random(seed), num_digits=3, with_steps=True)
        assert is_held_out(sum_prompt.rstrip("?")) and eval(sum_prompt.rstrip("?")) == int(answer)


def test_the_same_generator_gives_the_same_documents() -> None:
    assert list(documents(200, seed=7)) == list(documents(200, seed=7))
    assert list(documents(20, seed=7)) != list(documents(20, seed=8))


@pytest.mark.parametrize("a, b", [(0, 0), (9, 9), (12, 35), (999, 999), (6, 253), (100, 900)])
def test_worked_steps_are_right(a: int, b: int) -> None:
    columns = arithmetic.steps(a, b).split(";")
    for column in columns:
        left, total = column.split("=")
        assert sum(map(int, left.split("+"))) == int(total)
    carried, digits = int(columns[-1].split("=")[1]), "".join(column[-1] for column in columns[-2::-1])
    assert int(f"{carried}{digits}") == a + b
    assert arithmetic.worked(a, b).endswith(f"; {a + b}")


def test_worked_steps_look_as_documented() -> None:
    assert arithmetic.worked(12, 39) == "12+39? 2+9+0=11;1+3+1=5; 51"


@pytest.mark.parametrize(
    "name, word, expected",
    [
        ("reverse", "stone", "enots"),
        ("swap ends", "stone", "etons"),
        ("no vowels", "stone", "stn"),
        ("first to end", "stone", "tones"),
        ("dashes", "ab", "a-b"),
        ("count", "stone", "5"),
    ],
)
def test_rules_do_what_their_name_says(name: str, word: str, expected: str) -> None:
    (rule,) = [rule for rule in rules.RULES if rule.name == name]
    assert rule.draw(Random(0))(word) == expected


def test_date_formats() -> None:
    day = datetime.date(2021, 3, 5)
    assert [form(day) for form in dates.FORMATS.values()] == [
        "2021-03-05",
        "03/05/2021",
        "05.03.2021",
        "March 5, 2021",
        "5 March 2021",
        "5 Mar 2021",
    ]


def test_reviews_take_both_sides() -> None:
    labels = [review(Random(seed))[1] for seed in range(400)]
    assert {labels.count(label) > 150 for label in LABELS} == {True}


@pytest.mark.parametrize("task", demo.TASKS)
def test_demo_rows_are_reproducible_and_split(task: str) -> None:
    rows, again = demo.demo_rows(task, 50, seed=1), demo.demo_rows(task, 50, seed=1)
    assert rows == again
    assert [[turn["role"] for turn in row["messages"]] for row in rows] == [["user", "assistant"]] * 50
    if task != "sentiment":
        seen = {row["messages"][0]["content"] for row in rows}
        assert not seen & {row["messages"][0]["content"] for row in demo.demo_rows(task, 50, seed=1, held_out=True)}


@pytest.mark.parametrize("source", [["demo", "dates-iso"], ["sst2", "--data", "any.tsv"]])
def test_a_corpus_has_rows(source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    corpus.configure(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([*source, "--rows=-5", "--output", str(tmp_path / "f")])
    assert ended.value.code == 2
    assert "'-5' is not a number of rows" in capsys.readouterr().err
