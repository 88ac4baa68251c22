"""Curves of an evaluation as SVG: accuracy over the number of examples and of votes, and with steps against direct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from graft.training.evaluation.running.outcome import DIRECT, Outcome, metric_of
from graft.training.evaluation.tasks.task import Aggregation
from graft.training.runtime.disk import put_text


def draw(outcomes: Sequence[Outcome], folder: Path) -> list[tuple[str, str]]:
    """Writes what there is to draw; a title and the file's name of each. Raises OSError."""
    drawn = []
    for task in dict.fromkeys(one.task.name for one in outcomes):
        own = [one for one in outcomes if one.task.name == task]
        if metric_of(own[0].task, own[0].main_key).aggregation is Aggregation.PERPLEXITY:
            continue
        for what, axis in (("examples", _shots), ("votes", _votes)):
            if len({axis(one) for one in own}) > 1:
                name = f"{_file(task)}-{what}.svg"
                _curves(own, axis, what, f"{task}: accuracy by {what}", folder / name)
                drawn.append((f"{task}: accuracy by {what}", name))
        if len({one.setting.reasoning for one in own}) > 1:
            name = f"{_file(task)}-reasoning.svg"
            _bars(own, f"{task}: chain of thought against direct", folder / name)
            drawn.append((f"{task}: chain of thought against direct", name))
    return drawn


def _shots(one: Outcome) -> int:
    return one.setting.shots


def _votes(one: Outcome) -> int:
    return one.setting.votes


def _curves(own: Sequence[Outcome], axis: Callable[[Outcome], int], what: str, title: str, path: Path) -> None:
    figure, plot = _figure(title)
    lines: dict[str, list[Outcome]] = {}
    for one in own:
        rest = [one.model, one.setting.reasoning.replace("_", " ")]
        rest += [f"{one.setting.votes} votes" if what == "examples" else f"{one.setting.shots}-shot"]
        lines.setdefault(", ".join(rest), []).append(one)
    for label, points in lines.items():
        points.sort(key=axis)
        xs = [axis(one) for one in points]
        plot.errorbar(xs, [_mean(one) for one in points], yerr=_errors(points), label=label, marker="o", capsize=3)
    plot.set_xticks(sorted({axis(one) for one in own}))
    plot.set_xlabel(f"number of {what}")
    plot.legend(fontsize=8)
    _save(figure, path)


def _bars(own: Sequence[Outcome], title: str, path: Path) -> None:
    figure, plot = _figure(title)
    groups = list(dict.fromkeys((one.model, one.setting.shots, one.setting.votes) for one in own))
    kinds = sorted({one.setting.reasoning for one in own}, key=lambda kind: kind != DIRECT)
    for offset, kind in enumerate(kinds):
        chosen = [one for one in own if one.setting.reasoning == kind]
        places = [
            groups.index((one.model, one.setting.shots, one.setting.votes)) + 0.4 * (offset - 0.5) for one in chosen
        ]
        means, errors = [_mean(one) for one in chosen], _errors(chosen)
        plot.bar(places, means, width=0.38, yerr=errors, capsize=3, label=kind.replace("_", " "))
    plot.set_xticks(range(len(groups)), [f"{model}\n{shots}-shot, {votes} votes" for model, shots, votes in groups])
    plot.legend(fontsize=8)
    _save(figure, path)


def _mean(one: Outcome) -> float:
    return 100 * one.interval().mean


def _errors(points: Sequence[Outcome]) -> list[list[float]]:
    """Distances from the mean to the interval's ends: below, then above."""
    intervals = [one.interval() for one in points]
    below = [max(0.0, 100 * (one.mean - one.low)) for one in intervals]
    return [below, [max(0.0, 100 * (one.high - one.mean)) for one in intervals]]


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    plot = figure.subplots()
    plot.set_title(title)
    plot.set_ylabel("percent right")
    plot.set_ylim(0, 105)
    plot.grid(alpha=0.3)
    return figure, plot


def _save(figure: Any, path: Path) -> None:
    """The same figures make the same bytes."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "graft", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    put_text(path, text.getvalue())


def _file(task: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in task)[:80]
