"""What the tour tells, from chapters that nobody measured; a chapter, and a small tour, of a real server."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.client import Client
from graft.training.tour.chapter import Chapter, Example
from graft.training.tour.claim import gains, share_is
from graft.training.tour.figure import accuracy
from graft.training.tour.report import html
from graft.training.tour.text import chapter_text
from graft.training.tour.tour import chosen, found
from tests.running import Server

BEFORE, AFTER = [[False] * 10, [True] + [False] * 9], [[True] * 10, [True] * 10]
CHAPTER = Chapter(
    title="Zero & one",
    lecture="Examples <help>.",
    figures={"shots_0": accuracy(BEFORE), "shots_1": accuracy(AFTER)},
    claims=(gains("One is better.", BEFORE, AFTER, seed=0, above=0), share_is("None is enough.", BEFORE, at_least=80)),
    examples=(Example(prompt="a -> b\nc ->", said="<script>", right="d"),),
    curve=("shots_0", "shots_1"),
)

ROBUST = (
    "One example is better than none.",
    "Eight examples are better than none.",
    "Sums of three digits come right more often with steps.",
    "Nearly all sums come right with steps.",
    "The four nearest examples by BM25 are better than four at random.",
    "The check flags answers that cite a passage that is not there.",
)
"""What holds with few questions, too."""


def test_figures_are_flat_and_claims_are_counted() -> None:
    result = json.loads(json.dumps(found([CHAPTER])))
    assert result["shots_0"] == {"value": 5.0, "unit": "percent", "runs": [0.0, 10.0]}
    assert result["claims"]["value"] == 2 and result["claims_held"]["value"] == 1
    (chapter,) = result["chapters"]
    assert [claim["held"] for claim in chapter["claims"]] == [True, False]
    low, high = chapter["figures"]["shots_0"]
    assert low < 5 < high
    for name, figure in result.items():
        if name != "chapters":
            assert set(figure) == {"value", "unit", "runs"} and figure["runs"]


def test_a_claim_that_does_not_hold_is_told() -> None:
    text = chapter_text(1, CHAPTER)
    assert "HELD     One is better. 95.0 points" in text and "NOT HELD None is enough. 5.0 %" in text
    assert "(right: d)" in text


def test_the_page_escapes_and_stands_alone() -> None:
    page = html([CHAPTER], base="rootstock-5m")
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {name for name, value in attrs if value and name in ("src", "href") and value[0] != "#"}

    Reader().feed(page)
    assert page.count('id="LineCollection_') == 2, "each bar has its interval"
    assert "script" not in tags and "svg" in tags and "&lt;script&gt;" in page and "1 of 2 claims held" in page
    assert page == html([CHAPTER], base="rootstock-5m")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "{folder}/none/f.json"], "there is no folder"),
        (["--html", "{folder}"], "cannot be written"),
        (["--chapter", "votes", "--chapter", "vote"], "no chapter 'vote': examples, lexicon"),
        (["--server", "nowhere"], "no HOST:PORT"),
        (["--server", "127.0.0.1:1"], "no server answers there"),
    ],
)
def test_mistakes_are_said_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["tour", "prompting", *(one.format(folder=tmp_path) for one in arguments)]) == 2
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told


@pytest.mark.parametrize("count", ["0", "4", "-5", "many", "10001"])
def test_a_number_of_questions_that_measures_nothing(capsys: pytest.CaptureFixture[str], count: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tour", "prompting", f"--questions={count}"])
    assert ended.value.code == 2 and "is no number from 5 to 10000" in capsys.readouterr().err


def test_chapters_are_in_the_tours_order() -> None:
    assert chosen(["votes", "dates"]) == ["dates", "votes"] and len(chosen([])) == 10


def test_a_chapter_of_a_real_server(
    server: Server, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The programs that it registers are deleted in the end."""
    figures, before = tmp_path / "tour.json", {one.prompt for one in client.prompts()}
    arguments = ["--chapter", "dates", "--questions", "5", "--server", server.grpc, "--json", str(figures)]
    assert main(["tour", "prompting", *arguments]) == 0
    told, result = capsys.readouterr().out, json.loads(figures.read_text())
    assert "NOT HELD Four examples show a date format that nobody uses." in told and " of 2 claims held on" in told
    assert result["dates_invented"] == {"value": 0.0, "unit": "percent", "runs": [0.0] * 5}
    assert {one.prompt for one in client.prompts()} == before


@pytest.mark.slow
def test_a_small_tour(server: Server, tmp_path: Path) -> None:
    figures, page = tmp_path / "tour.json", tmp_path / "tour.html"
    arguments = ["--server", server.grpc, "--questions", "40", "--json", str(figures), "--html", str(page)]
    assert main(["tour", "prompting", *arguments]) == 0
    result = json.loads(figures.read_text())
    measured = {name: figure for name, figure in result.items() if name != "chapters"}
    assert all(set(figure) == {"value", "unit", "runs"} and figure["runs"] for figure in measured.values())
    percents = [f"shots_{count}" for count in (0, 1, 2, 4, 8)]
    percents += ["votes_1", "votes_5", "votes_20", "direct", "worked", "examples_random", "examples_nearest"]
    assert {measured[name]["unit"] for name in percents} == {"percent"}
    assert measured["worked_minus_direct"]["value"] > 50 and measured["votes_20_minus_1"]["value"] >= 10
    assert measured["dates_invented"]["value"] < 50, "if the base learned it, the README is to be changed"
    deviations = [measured[f"first_letter_deviation_{name}"]["value"] for name in ("raw", "calibrated")]
    assert deviations[1] < deviations[0]
    claims = {claim["says"]: claim["held"] for chapter in result["chapters"] for claim in chapter["claims"]}
    assert all(claims[says] for says in ROBUST)
    assert measured["claims"]["value"] == len(claims) and measured["claims_held"]["value"] == sum(claims.values())
    assert sum(claims.values()) < len(claims)
    assert page.read_text().startswith("<!doctype html>") and page.read_text().count("<svg") == 5
