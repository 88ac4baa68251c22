"""The page that a training ends with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from graft.training.report.chart import MAX_POINTS, Curve, chart, thinned
from graft.training.report.curves import curves
from graft.training.report.examples import Example, section
from graft.training.report.masks import MAX_CHARACTERS, MAX_PIECES, MarkedRow, bounded, marked
from graft.training.report.page import table
from graft.training.report.report import Report
from graft.training.report.scale import Scale, ticks
from graft.training.report.summary import summary
from graft.training.settings.settings import TrainingSettings
from tests.training.report.pages import Page


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
    found = Page.read(path)
    assert all(link.startswith("#") for link in found.links)
    assert found.tags.count("svg") == 4  # loss, rewards, gradient and speed
    assert path.read_text().count("<figure class=whole>") == 1, "the loss has a line to itself, the others share theirs"
    assert found.text.index("0.012") < found.text.index("others, as they are by default") < found.text.index("seed")
    for text in ("An <adapter>", "<b>2 & 2?", "graft adapters push x", "0.012", "rootstock-5m", "four"):
        assert text in found.text, text


def test_bars_have_a_colour_of_their_own() -> None:
    assert table(("", ""), [("up to 64", "███"), ("up to 128", "")]).count("<td class=bar>") == 1


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


def test_a_curve_lies_where_its_numbers_are() -> None:
    steps, values = [100, 110, 120, 140], [14.0, 11.0, 12.5, 10.5]
    drawn = chart([Curve(name="<loss>", steps=steps, values=values)], unit="loss & <nats>", width=500, height=220)
    assert "loss &amp; &lt;nats&gt;" in drawn and "<nats>" not in drawn and "<loss>" not in drawn
    path = re.search(r'path d="M([^"]*)"', drawn)
    assert path is not None
    (first,) = re.findall(r'<text x="([\d.]+)" y="215" text-anchor="middle">100<', drawn)
    places = [tuple(map(float, one.split())) for one in path[1].split("L")]
    assert places[0][0] == float(first) == 48
    by_text = dict(re.findall(r'y="([-\d.]+)" dy="4" text-anchor="end">([\d.]+)<', drawn))
    (low, bottom), *_, (high, top) = sorted((float(said), float(place)) for place, said in by_text.items())
    for (x, y), step, value in zip(places, steps, values, strict=True):
        assert 0 <= x <= 500 and 0 <= y <= 220
        assert x == pytest.approx(places[0][0] + (places[-1][0] - places[0][0]) * (step - 100) / 40, abs=0.1)
        assert y == pytest.approx(bottom + (top - bottom) * (value - low) / (high - low), abs=0.2)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-2.0, 5.0], [1e-9, 2e-9], [9e8, 1e9], [-1000.0, -990.0]])
def test_the_numbers_beside_it_are_round_and_inside(values: list[float]) -> None:
    scale = Scale.of(values, start=100, end=0, has_room=True)
    assert scale.low <= min(values) < scale.high and max(values) <= scale.high
    shown = ticks(scale.low, scale.high, most=5)
    assert 2 <= len(shown) <= 6 and len({said for _, said in shown}) == len(shown)
    step = shown[1][0] - shown[0][0]
    assert f"{step:.0e}"[0] in "125"
    for number, (value, said) in enumerate(shown):
        assert scale.low - 1e-9 * step <= value <= scale.high + 1e-9 * step
        assert value == pytest.approx(shown[0][0] + number * step)
        assert float(said.replace(",", "")) == pytest.approx(value, rel=5e-3, abs=1e-12)


def test_a_rows_marks_stay_small_and_cannot_become_tags() -> None:
    pieces = [(f"<i>{'x' * 9_000}", False), *[("<b>&", number % 2 == 0) for number in range(3_000)], ("end", True)]
    kept = bounded(pieces)
    assert len(kept) <= MAX_PIECES + 1 and all(len(text) <= MAX_CHARACTERS + 60 for text, _ in kept)
    assert kept[-1] == ("end", True) and bounded((("a", True),)) == (("a", True),)
    page = Page(marked([MarkedRow(title="<row>", pieces=kept)]))
    assert not {"b", "i", "row"} & set(page.tags)
    assert page.inside("mark")[-1] == "end" and page.inside("mark")[0] == "<b>&"


def test_pairs_are_told_by_rewards_margins_and_how_many_are_right() -> None:
    lines = [{**line, "rewards/accuracies": 0.5, "validation_rewards/accuracies": 1.0} for line in rows(40)]
    page = Page(curves(lines).body)
    for unit in ("loss (nats)", "rewards", "pairs the right way round (share)"):
        assert unit in page.inside("figcaption"), unit
    assert summary(lines, learned="pairs")["pairs learned"] == "1,600"
    assert summary(lines)["held out: accuracies"] == "1.0000 → 1.0000"
