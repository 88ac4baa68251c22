"""The page that a training ends with."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graft.training.report.chart import MAX_POINTS, Curve, thinned
from graft.training.report.curves import curves
from graft.training.report.examples import Example, section
from graft.training.report.report import Report
from graft.training.report.summary import summary
from graft.training.settings.settings import TrainingSettings

VOID = {"meta", "path", "use", "rect", "circle", "line", "br"}


class Balance(HTMLParser):
    """Whether every tag that opens is closed, and what text stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not (name in ("src", "href") and value and not value.startswith("#")), "loads from elsewhere"
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def rows(num: int) -> list[dict[str, float | None]]:
    return [
        {
            "step": step,
            "seconds": 0.5,
            "loss": 3.0 - step / num,
            "tokens": 100,
            "supervised_tokens": 40,
            "gradient_norm": 1.0,
            "tokens_per_second": 200.0,
            "mfu": None,
            "memory": 1e9,
            "skipped": 0,
            **({"validation_loss": 2.5 - step / num} if step % 5 == 4 else {}),
            "rewards/chosen": step * 0.1,
            "rewards/rejected": -step * 0.1,
        }
        for step in range(num)
    ]


def written(folder: Path, lines: list[dict[str, float | None]]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return folder


def report() -> Report:
    example = Example(prompt="<b>2 & 2?", before="five", after="four", row_says={"expected": "four"})
    return Report(
        title="An <adapter>",
        lead="LoRA of rank 4 & more",
        origin={"base": "rootstock-5m"},
        settings=TrainingSettings(learning_rate=0.012),
        sections=[section([example])],
        commands=["graft serve --base rootstock-5m", "graft adapters push x"],
    )


def test_a_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    path = report().write(written(tmp_path, rows(20)))
    found = Balance()
    found.feed(path.read_text(encoding="utf-8"))
    assert found.open == []
    assert "script" not in found.tags
    assert found.tags.count("svg") == 4  # loss, rewards, gradient and speed
    assert found.text.index("0.012") < found.text.index("others, as they are by default") < found.text.index("seed")
    for text in ("An <adapter>", "<b>2 & 2?", "graft adapters push x", "0.012", "rootstock-5m", "four"):
        assert text in found.text, text


def test_the_same_training_makes_the_same_page(tmp_path: Path) -> None:
    folder = written(tmp_path, rows(20))
    assert report().html(folder) == report().html(folder)


def test_a_training_in_figures() -> None:
    found = summary(rows(20))
    assert found["steps"] == "20"
    assert found["tokens read"] == "2,000"
    assert found["time in steps"] == "10.0 s"
    assert found["loss"].startswith("2.9750 → 2.0750")
    assert found["held out: loss"] == "2.3000 → 1.5500"


def test_what_was_no_number_leaves_a_gap() -> None:
    lines = rows(3)
    lines[1]["loss"] = None
    assert "<svg" in curves(lines).body
    lines = [{**line, "loss": None} for line in lines]
    assert "no step told a loss" in curves(lines).body


@pytest.mark.parametrize("num", [1, MAX_POINTS, MAX_POINTS + 1, 10 * MAX_POINTS + 7])
def test_a_long_curve_keeps_its_mean(num: int) -> None:
    found = thinned(Curve(name="x", steps=range(num), values=[float(step % 7) for step in range(num)]))
    assert len(found.steps) == min(num, MAX_POINTS)
    assert found.steps[0] >= 0 and found.steps[-1] <= num - 1
    assert sum(found.values) / len(found.values) == pytest.approx(sum(step % 7 for step in range(num)) / num, rel=0.02)
