"""`graft finetune --audit`: which tokens carry loss, and every row that is not learned whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from graft.cli.main import main
from graft.training.finetune.audit.audit import Audit, FileAudit, ShownExample
from graft.training.finetune.audit.page import learned
from tests.training.report.pages import Page


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def audit(base: Path, *arguments: str | Path) -> int:
    return main(["finetune", "--base", str(base), "--audit", *map(str, arguments)])


class Marked(HTMLParser):
    """The text between a page's marks, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.inside = False
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.inside = tag == "mark"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found.append(data)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    turns = [("system", "Be <b>."), ("user", "a?"), ("assistant", "b"), ("user", "c?"), ("assistant", "d")]
    talk = {"messages": [{"role": role, "content": content} for role, content in turns]}
    return write(tmp_path / "rows.jsonl", talk, pair("x" * 80, "y"), pair("e -> ", "E"), {"text": "z" * 90})


def test_what_carries_loss_is_shown_and_counted(
    tiny_base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = write(tmp_path / "held.jsonl", pair("e -> ", "E"))
    page = tmp_path / "audit.html"
    limits = ["--max-length", "64", "--long-rows", "keep_start", "--validation", held_out]
    assert audit(tiny_base, "--data", rows, *limits, "--audit-rows", "2", "--audit-html", page) == 0
    told = capsys.readouterr().out
    assert "⟦b<|im_end|>⟧" in told and "⟦d<|im_end|>⟧" in told and "⟦E<|eos|>⟧" in told
    assert len(re.findall("⟦", told)) == 4  # with that which says how it is written
    assert "1 row is dropped\n    line 2: 82 tokens, max_length is 64; nothing that is learned is left of it" in told
    assert "1 row is cut\n    line 4: 91 tokens, max_length is 64 (keep_start)" in told
    assert "1 row is also measured on, which flatters: line 3" in told
    shown = Marked(page.read_text())
    assert shown.found == ["b<|im_end|>", "d<|im_end|>", "E<|eos|>"]
    assert "script" not in shown.tags and "Be &lt;b&gt;." in page.read_text()
    assert "prefers-color-scheme: dark" in page.read_text() and "http" not in page.read_text()
    assert not (tmp_path / ".graft").exists()


def test_a_terminal_obeys_no_row(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", pair("a\x1b[2J\x07", "\tb\n"))
    assert audit(tiny_base, "--data", rows) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\x07" not in told and r"a\x1b[2J\x07⟦" in told and "\tb\n" in told


def test_the_same_in_json(tiny_base: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(tiny_base, "--data", rows, "--long-rows", "drop", "--max-length", "64", "--audit-output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    (file,) = found["files"]
    assert found["sound"] and file["num_rows"] == 4 and file["num_examples"] == 2
    assert [number for number, _ in file["dropped"]] == [2, 4]
    assert file["num_learned"] == len("b") + 1 + len("d") + 1 + len("E") + 1
    assert sum(num for _, num in file["lengths"]) == 2


def test_rows_that_cannot_be_learned_are_listed_and_end_in_2(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path / "a.jsonl", pair("a", ""), pair("a", "b"))
    second = write(tmp_path / "b.jsonl", *[{"text": ""}] * 30, {"text": "fine"})
    assert audit(tiny_base, "--data", first, "--data", f"{second}:0.5") == 2
    told = capsys.readouterr().out
    assert "refused: no training begins\n    line 1: completion is empty" in told
    assert "30 rows are refused: no training begins\n    lines 1, 2, " in told and told.count("text is empty") == 1
    assert ", 20 … (30 in all): text is empty" in told and "0.5 by weight" in told
    assert audit(tiny_base) == 2
    assert "--data is missing" in capsys.readouterr().err


def test_gsm8k_carries_loss_on_its_reasoning(
    tiny_base: Path, tmp_path: Path, data_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gsm8k.jsonl"
    path.write_text("".join(data_path("gsm8k/test.jsonl").open().readlines()[:100]))
    columns = ["--columns", "prompt=question,completion=answer", "--max-length", "4096"]
    assert audit(tiny_base, "--data", path, *columns, "--audit-rows", "100", "--audit-output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["examples"]) == 100 and not found["files"][0]["dropped"]
    for row, shown in zip(map(json.loads, path.open()), found["examples"], strict=True):
        assert shown["pieces"] == [[row["question"], False], [f"{row['answer']}<|eos|>", True]]


def test_on_a_trainings_page_lists_are_short(tmp_path: Path) -> None:
    file = FileAudit(
        path=tmp_path / "<rows>.jsonl",
        weight=None,
        unit="line",
        num_rows=90,
        num_examples=30,
        num_tokens=300,
        num_learned=100,
        lengths=((16, 30),),
        dropped=tuple((number, "<long>") for number in range(60)),
        cut=(),
        refused=(),
        held_out=tuple(range(40)),
        notes=(),
    )
    shown = [ShownExample(path=file.path, number=number, pieces=(("x" * 9_000, True),)) for number in range(30)]
    section = learned(Audit(base="b", files=(file,), examples=tuple(shown)), num_held_out=3)
    page = Page(section.body)
    assert "60 rows are dropped" in page.text and "… and 40 more" in page.text and "3 of the examples" in page.text
    assert page.inside("td").count("<long>") == 20 and page.text.count("19 …") == 1
    assert len(page.inside("mark")) == 8 and len(section.body) < 30_000
