"""What the tour tells, from chapters that nobody measured; and a small tour of a real server."""

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
from graft.training.tour.tour import found
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


def test_figures_are_flat_and_claims_are_counted() -> None:
    result = json.loads(json.dumps(found([CHAPTER])))
    assert result["shots_0"] == {"value": 5.0, "unit": "percent", "runs": [0.0, 10.0]}
    assert result["claims"]["value"] == 2 and result["claims_held"]["value"] == 1
    assert [claim["held"] for claim in result["chapters"][0]["claims"]] == [True, False]
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
    assert "script" not in tags and "svg" in tags and "&lt;script&gt;" in page and "1 of 2 claims held" in page
    assert page == html([CHAPTER], base="rootstock-5m")


def test_mistakes_are_said_before_anything_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tour", "prompting", "--json", str(tmp_path / "none" / "f.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["tour", "prompting", "--server", "nowhere"]) == 2
    assert "no HOST:PORT" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_tour(server: Server, client: Client, tmp_path: Path) -> None:
    figures, page = tmp_path / "tour.json", tmp_path / "tour.html"
    before = {one.name for one in client.prompts()}
    arguments = ["--server", server.grpc, "--questions", "20", "--json", str(figures), "--html", str(page)]
    assert main(["tour", "prompting", *arguments]) == 0
    result = json.loads(figures.read_text())
    assert {f"shots_{count}" for count in (0, 1, 2, 4, 8)} < set(result)
    assert result["shots_8"]["value"] > result["shots_0"]["value"]
    assert result["worked_minus_direct"]["value"] > 50 and result["votes_20_minus_1"]["value"] >= 10
    assert result["dates_invented"]["value"] < 50, "if the base learned it, the README is to be changed"
    assert 0 < result["claims_held"]["value"] < result["claims"]["value"]
    assert page.read_text().startswith("<!doctype html>")
    assert {one.name for one in client.prompts()} == before
