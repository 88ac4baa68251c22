"""What a followed job looks like on a terminal at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.cli.fine_tuning.curves import Curves, chosen
from graft.cli.fine_tuning.texts import event_line, status_line
from graft.cli.plots.chart import Style, chart

if TYPE_CHECKING:
    from graft.v1 import job_pb2

_MAX_WIDTH, _MIN_CHART, _MAX_CHART, _NUM_MESSAGES = 100, 5, 12, 5


def frame(
    job: job_pb2.Job,
    curves: Curves,
    messages: Sequence[job_pb2.JobEvent],
    *,
    wanted: Sequence[str],
    notice: str,
    size: tuple[int, int],
    style: Style,
) -> list[str]:
    """The job's state, curves, latest messages, and a notice; in fewer lines than `size` (columns, rows) has."""
    columns, rows = size
    width = min(columns, _MAX_WIDTH)
    last = [_cut(event_line(one), width) for one in messages[-_NUM_MESSAGES:]]
    foot = [*last, *([style.paint(_cut(notice, width), "33")] if notice else [])]
    pictures = chosen(curves.names, wanted)
    left = rows - 2 - len(foot)
    num_shown = max(0, min(len(pictures), left // _MIN_CHART))
    lines = [style.paint(_cut(status_line(job), width), "1")]
    for title in list(pictures)[:num_shown]:
        points = {name: curves.points(name) for name in pictures[title]}
        height = min(_MAX_CHART, left // num_shown)
        lines += chart(title, points, width=width, height=height, style=style)
    return [*lines, *foot][: max(1, rows - 1)]


def _cut(text: str, width: int) -> str:
    line = text.replace("\n", " ").replace("\t", " ")
    return line if len(line) <= width else f"{line[: width - 3]}..."
