"""Reports: every figure in each, in the shapes that others read."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graft.training.errors import NotWritten
from graft.training.evaluation.reports import folder
from graft.training.evaluation.reports.junit import junit
from graft.training.evaluation.reports.markdown import markdown
from graft.training.evaluation.reports.summary import pairs, summary
from graft.training.evaluation.reports.text import text
from graft.training.evaluation.running.outcome import Outcome
from graft.training.evaluation.running.run import Plan, evaluate
from tests.training.evaluation.running.test_run import SUMS, adds
from tests.training.evaluation.scripted import ScriptedModel


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """An old model that is right half the time and says what would be markup, and a new one that is always right."""

    def sums(prompt: str, path: int) -> str:
        return adds(prompt.split(" Let's")[0], path)

    def old(prompt: str, path: int) -> str:
        said = sums(prompt, path)
        return said if int(said.split("\n")[0]) % 2 else "<b>|`]]>\x01\ufffe"

    models = [ScriptedModel(name="old", say_=old), ScriptedModel(name="new@3", say_=sums)]
    return evaluate(models, [SUMS], Plan(shots=(0, 4), votes=(1, 3), reasoning=("direct", "chain_of_thought")))


def test_pairs_are_with_the_first_model_and_with_the_simplest_setting(outcomes: list[Outcome]) -> None:
    found = pairs(outcomes)
    assert len(found) == 8 + 2 * 7
    first = next(one for one in found if one.candidate == "new@3" and one.baseline == "old")
    assert first.comparison.difference == 0.5 and first.comparison.p_value == pytest.approx(2 / 2**10)


def test_text_and_markdown_hold_every_figure(outcomes: list[Outcome]) -> None:
    for told in (text(outcomes), markdown(outcomes)):
        assert told.count("50.0 % [") == told.count("100.0 % [83.9, 100.0]") == 8, "Wilson's of 20 of 20"
        assert "new@3" in told and "McNemar" in told
    assert "<b>" not in markdown(outcomes)


def test_the_folder(outcomes: list[Outcome], tmp_path: Path) -> None:
    folder.write(outcomes, tmp_path, server="localhost:1", seconds_since_epoch=5.0)
    page = (tmp_path / "report.md").read_text()
    pictures = [path.name for path in sorted(tmp_path.glob("*.svg"))]
    assert pictures == ["sums-examples.svg", "sums-reasoning.svg", "sums-votes.svg"]
    assert all(f"]({name})" in page for name in pictures)
    for name in pictures:
        ElementTree.parse(tmp_path / name)
    found = json.loads((tmp_path / "new@3" / "results.json").read_text())
    assert found["results"]["sums (0-shot)"]["exact_match,none"] == 1.0
    assert found["results"]["sums (0-shot)"]["exact_match_stderr,none"] == 0.0
    assert found["n-shot"]["sums (4-shot)"] == 4 and found["higher_is_better"]["sums (4-shot)"] == {"exact_match": True}
    keys = {
        "results",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "config",
        "date",
    }
    assert keys <= found.keys()
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 16 * 20
    second = [row["prompt"] for row in rows if row["index"] == 1]
    assert second.count("1+1=") == 8 and all(prompt.endswith("1+1=") for prompt in second), "with examples or without"
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary(outcomes)))


def test_junit_counts_failures_and_is_xml(outcomes: list[Outcome], tmp_path: Path) -> None:
    folder.write(outcomes, tmp_path, server="localhost:1", seconds_since_epoch=5.0)
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert len(suites) == 16
    first = suites[0]
    assert (first.get("name"), first.get("tests"), first.get("failures"), first.get("errors")) == (
        "sums / old / 0-shot", "20", "10", "0"
    )  # fmt: skip
    assert len(first.findall("testcase/failure")) == 10
    assert [case.findtext("system-out") for case in first] == [f"{n}+1=" for n in range(20)]


def test_of_a_program_its_variables_are_told(tmp_path: Path) -> None:
    program = ScriptedModel(name="prompt:sums", say_=lambda prompt, path: "no")
    found = evaluate([program], [replace(SUMS, answer_fields=("secret",))], Plan(limit=1))
    assert '{"n": 0}' in markdown(found).replace("\\", "") and '{"n": 0}' in junit(found)
    folder.write(found, tmp_path, server="localhost:1", seconds_since_epoch=5.0)
    (row,) = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert row["variables"] == {"n": 0} and "prompt" not in row


def test_wrong_answers_are_shown_beside_their_question(outcomes: list[Outcome]) -> None:
    assert "question | asked | said | right" in markdown(outcomes) and "| 0+1= |" not in markdown(outcomes)
    assert "| 2 | 1+1= |" in markdown(outcomes)


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(
    outcomes: list[Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summary.json").write_text("old")

    def full(path: Path, text: str, encoding: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NotWritten, match="No space left on device") as caught:
        folder.write(outcomes, tmp_path, server="x:1", seconds_since_epoch=5.0)
    assert str(tmp_path / "summary.json") in str(caught.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"summary.json": "old"}


def test_pictures_are_the_same_each_time(outcomes: list[Outcome], tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder.write(outcomes, tmp_path / name, server="x:1", seconds_since_epoch=5.0)
    for path in (tmp_path / "a").glob("*.svg"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
