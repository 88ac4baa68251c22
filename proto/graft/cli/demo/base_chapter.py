"""The base alone: examples in the prompt and worked steps change what it can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graft.cli.demo.report import Report
from graft.cli.server_process import RunningServer, run_command
from graft.client import Client

_NUM_TRIALS = 54
# Far above chance for so many trials.
_MIN_GAIN_PERCENT = 30
# Its last line waits for an answer; the lines before show the rule.
_SHOTS = "cat -> tac\nmelon -> nolem\nbird -> drib\nstone -> enots\n"
_ASKED = "water ->"
_SUM = "486+357"


def show_base(server: RunningServer, client: Client, work: Path, report: Report) -> None:
    """One example of each setting, then the scores on held-out questions."""
    for prompt in (_ASKED, _SHOTS + _ASKED):
        report.show(prompt, client.generate(prompt, max_tokens=16, stop="\n").text, "base")
    for prompt in (f"{_SUM}=", f"{_SUM}?"):
        report.show(prompt, client.generate(prompt, max_tokens=64, stop="\n").text, "base")
    command = ["evaluate", "rootstock", "--server", server.target, "--trials", str(_NUM_TRIALS), "--output", "json"]
    scores = json.loads(run_command(command, log=work / "evaluate.log", threads=1))
    zero, few = (_percent(scores, setting=setting) for setting in ("0-shot", "4-shot"))
    report.claim(
        "the base learns a rule from examples in the prompt",
        f"{zero:.0f} % → {few:.0f} % with 4",
        few - zero >= _MIN_GAIN_PERCENT,
    )
    direct, worked = (_percent(scores, setting=setting, task="3-digit sum") for setting in ("direct", "worked"))
    report.claim(
        "the base adds 3 digits step by step",
        f"{direct:.0f} % → {worked:.0f} % worked",
        worked - direct >= _MIN_GAIN_PERCENT,
    )


def _percent(scores: list[dict[str, Any]], *, setting: str, task: str | None = None) -> float:
    chosen = [score for score in scores if score["setting"] == setting and task in (None, score["task"])]
    num_right, num_trials = (sum(int(score[key]) for score in chosen) for key in ("num_right", "num_trials"))
    return 100 * num_right / num_trials
