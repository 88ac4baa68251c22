"""A policy learns on the server that serves a second client meanwhile."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.cli.demo.report import Report
from graft.cli.demo.rl.others import NUM_STREAMS, Others
from graft.cli.demo.rl.recipe import GRADER, NUM_HELD_OUT, settings
from graft.cli.demo.rl.training import Training
from graft.cli.demo.variety import BASE
from graft.cli.load import milliseconds
from graft.cli.plots.chart import chart
from graft.cli.plots.screen import style_of
from graft.cli.server_process import ServerProcess, run_command

_WARM_SECONDS, _BEFORE_SECONDS, _TRAINING_SECONDS, _HALTED_SECONDS, _SETTLING_SECONDS = 3.0, 15.0, 40.0, 8.0, 1.0
_MOST_SECONDS = 1200.0
_WIDTH, _HEIGHT = 70, 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants to see."""

    method: str
    seed: int
    num_rounds: int | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What came of it, as ``--json`` has it."""

    method: str
    seed: int
    reward_first: float
    """Of the base on held-out sums, one answer each, sampled at temperature 1."""
    reward_last: float
    """The same of the last policy."""
    others_failed: int
    others_requests: int
    gap_ratio: float | None
    """p99 of the second client's gaps between tokens while the training runs, by that of the windows without it; None
    where there were no gaps with it, or none without."""
    gap_p99_seconds: float | None
    gap_p99_seconds_without: float | None
    gaps: list[dict[str, float | bool]]
    """The same by window, in their order."""
    logprob_mismatch: float
    """Mean |Δ log p| between server and trainer, of the round where it was largest."""
    seconds: float
    num_rounds: int
    rewards: list[float]
    """Of each round's own answers."""
    held_out_rewards: dict[int, float]
    """After so many rounds."""


def run_rl(work: Path, asked: Asked, output: Path | None) -> bool:
    """Whether every claim holds; what was measured goes to ``output`` as JSON."""
    report = Report()
    process = ServerProcess(work, "--base", BASE, "--parity", "recorded")
    try:
        shown = _show(process, work, asked, report)
    finally:
        left = process.stop()
    if output is not None:
        output.write_text(json.dumps(asdict(shown), indent=1) + "\n", encoding="utf-8")
    report.chapter("What came of it")
    _judge(shown, report)
    report.claim("nothing is left running", "no process" if not left else f"processes {left}", not left)
    return report.summary()


def _show(process: ServerProcess, work: Path, asked: Asked, report: Report) -> Shown:
    report.chapter(f"A server, and a second client whose {NUM_STREAMS} users ask, read and ask again")
    arguments = _arguments(work, asked)
    server = process.wait_ready()
    with Others(target=server.target) as others:
        time.sleep(_WARM_SECONDS)
        others.watch(_BEFORE_SECONDS, is_training=False)
        report.say(f"p99 gap between its tokens: {milliseconds(others.gap_seconds(is_training=False))}")
        report.chapter(f"{asked.method} on sums such as 47+85=, by what the server samples (seed {asked.seed})")
        begun, folder = time.monotonic(), work / "reinforce"
        command = ["--server", server.target, *arguments]
        with Training(command, folder=folder, log=work / "reinforce.log") as training:
            _follow(training, others, report)
            rounds = training.rounds
        seconds = time.monotonic() - begun
        others.watch(_HALTED_SECONDS, is_training=False)
    return _shown(asked, rounds, others, seconds)


def _arguments(work: Path, asked: Asked) -> list[str]:
    rows, held_out, config, grader = (
        work / name for name in ("rows.jsonl", "held-out.jsonl", "reinforce.json", "grader.json")
    )
    log = work / "sums.log"
    run_command(["corpus", "sums", "--output", str(rows)], log=log, threads=1)
    run_command(
        ["corpus", "sums", "--held-out", "--rows", str(NUM_HELD_OUT), "--output", str(held_out)], log=log, threads=1
    )
    said = settings(asked.method, seed=asked.seed, num_rounds=asked.num_rounds, held_out=str(held_out))
    config.write_text(json.dumps(said), encoding="utf-8")
    grader.write_text(json.dumps(GRADER), encoding="utf-8")
    return [
        *("--base", BASE, "--name", "sums", "--data", str(rows)),
        *("--grader", str(grader), "--config", str(config)),
    ]


def _follow(training: Training, others: Others, report: Report) -> None:
    """To its end; every now and then it is halted, so that gaps with and without it are of the same minutes."""
    told = 0
    while not training.rounds and training.goes_on(1.0):
        pass
    while True:
        begin = time.monotonic()
        goes_on = training.goes_on(_TRAINING_SECONDS)
        others.seen(begin, is_training=True)
        told = _tell(training, told, others, report)
        if not goes_on:
            return
        with training.halted():
            time.sleep(_SETTLING_SECONDS)
            others.watch(_HALTED_SECONDS, is_training=False)
        if not training.goes_on(_SETTLING_SECONDS):
            return


def _tell(training: Training, told: int, others: Others, report: Report) -> int:
    rounds = training.rounds
    if len(rounds) > told:
        last = rounds[-1]
        own = [one["reward"] for one in rounds[told:]]
        held_out = next((one["validation_reward"] for one in reversed(rounds) if "validation_reward" in one), None)
        more = "" if held_out is None else f", held-out {held_out:.2f}"
        report.say(
            f"round {last['step'] + 1:3}: reward {sum(own) / len(own):.2f}{more}, "
            f"mismatch {last.get('logprob_mismatch') or 0:.4f}, {last['seconds']:.1f} s a round; p99 gaps with and "
            f"without: {_gaps(others)}"
        )
    return len(rounds)


def _gaps(others: Others) -> str:
    return " and ".join(milliseconds(others.gap_seconds(is_training=one)) for one in (True, False))


def _shown(asked: Asked, rounds: list[dict[str, Any]], others: Others, seconds: float) -> Shown:
    held_out = {one["step"] + 1: one["validation_reward"] for one in rounds if "validation_reward" in one}
    with_it, without = (others.gap_seconds(is_training=one) for one in (True, False))
    return Shown(
        method=asked.method,
        seed=asked.seed,
        reward_first=rounds[0]["validation_reward_before"],
        reward_last=held_out[max(held_out)],
        others_failed=len(others.failed),
        others_requests=len(others.answers),
        gap_ratio=with_it / without if with_it is not None and without else None,
        gap_p99_seconds=with_it,
        gap_p99_seconds_without=without,
        gaps=others.by_window(),
        logprob_mismatch=max(one.get("logprob_mismatch") or 0.0 for one in rounds),
        seconds=seconds,
        num_rounds=len(rounds),
        rewards=[one["reward"] for one in rounds],
        held_out_rewards=held_out,
    )


def _judge(shown: Shown, report: Report) -> None:
    rewards = [(float(number), reward) for number, reward in enumerate(shown.rewards, start=1)]
    for line in chart("", {"reward": rewards}, width=_WIDTH, height=_HEIGHT, style=style_of(sys.stdout)):
        report.say(line)
    report.say(f"mean reward of each round's {len(shown.rewards)}, from the first to the last")
    first, last = shown.reward_first, shown.reward_last
    report.claim("the base is right now and then", f"{first:.1%} of held-out sums", 0.05 <= first <= 0.30)
    report.claim("the policy is right as a rule", f"{last:.1%}", last > 0.8)
    report.claim("in twenty minutes", f"{shown.seconds:.0f} s", shown.seconds <= _MOST_SECONDS)
    detail = f"{shown.others_failed} of {shown.others_requests:,} failed"
    report.claim("no request of the second client fails", detail, not shown.others_failed)
    gaps, ratio = [milliseconds(one) for one in (shown.gap_p99_seconds, shown.gap_p99_seconds_without)], shown.gap_ratio
    report.claim(
        "its p99 gap between tokens grows by half at most",
        f"{' by '.join(gaps)}: {'no gaps to compare' if ratio is None else f'{ratio:.2f}'}",
        ratio is not None and ratio <= 1.5,
    )
    report.claim(
        "server and trainer agree on log-probabilities in every round",
        f"mean |Δ| at most {shown.logprob_mismatch:.4f}",
        shown.logprob_mismatch <= 0.02,
    )
