"""Sums of three digits: with steps against at once, and sampled paths that vote."""

from __future__ import annotations

from random import Random
from typing import Any

from graft.training.evaluation.asking.side_by_side import NUM_STREAMS
from graft.training.rootstock.corpus import arithmetic
from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import gains, share_is
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import Marks, accuracy, gain

TEMPERATURES = (1.75, 1.6, 1.9, 1.45, 2.0)
"""Where one path may be right about half of the time, the likeliest first."""
BAND = (40.0, 70.0)
PATHS = (1, 5, 20)
NUM_PILOT = 40


def steps_against_direct(room: Classroom) -> Chapter:
    """Chain of thought (Wei et al. 2022, arXiv:2201.11903)."""
    direct, worked = (_marks(room, program, {}) for program in (_direct, _worked))
    says = "Sums of three digits come right more often with steps."
    return Chapter(
        title="Chain of thought",
        lecture="Examples that show their steps make the model reason before it answers (Wei et al. 2022).",
        figures={
            "direct": accuracy(direct),
            "worked": accuracy(worked),
            "worked_minus_direct": gain(direct, worked),
        },
        claims=(
            gains(says, direct, worked, seed=room.seed, above=0),
            share_is("Nearly all sums come right with steps.", worked, at_least=80),
        ),
        examples=tuple(room.example(_question(room, program, 0, 0, {})) for program in (_direct, _worked)),
        curve=("direct", "worked"),
    )


def votes(room: Classroom) -> Chapter:
    """Self-consistency (Wang et al. 2022, arXiv:2203.11171), where one path is right about half of the time."""
    temperature, tried = _difficulty(room)
    marks = {
        count: _marks(room, _voting(count), {"temperature": temperature}, about=f"{count} paths", num_paths=count)
        for count in PATHS
    }
    one = accuracy(marks[1]).value
    return Chapter(
        title="Self-consistency",
        lecture="Many sampled paths vote, and what most of them end in is right more often than one path.",
        figures={
            **{f"votes_{count}": accuracy(marks[count]) for count in PATHS},
            "votes_20_minus_1": gain(marks[1], marks[20]),
        },
        claims=(
            gains(
                "Twenty paths are at least ten points better than one.",
                marks[1],
                marks[20],
                seed=room.seed,
                at_least=10,
            ),
            gains("Five paths are better than one.", marks[1], marks[5], seed=room.seed, above=0),
        ),
        remark=f"Temperature {temperature:g} was chosen by {NUM_PILOT} other sums ({tried}); one path was then right "
        f"{one:.0f} % of the time" + (", outside of 40 to 70 %." if not BAND[0] <= one <= BAND[1] else "."),
        curve=tuple(f"votes_{count}" for count in PATHS),
    )


def _difficulty(room: Classroom) -> tuple[float, str]:
    """The first temperature at which one path is right 45 to 65 % of the time, else the one nearest to 55 %."""
    found: dict[float, float] = {}
    for temperature in TEMPERATURES:
        runs = [[_question(room, _worked, -1, index, {"temperature": temperature}) for index in range(NUM_PILOT)]]
        found[temperature] = accuracy(room.marks(runs, about=f"temperature {temperature:g}")).value
        if abs(found[temperature] - 55) <= 10:
            break
    best = min(found, key=lambda one: abs(found[one] - 55))
    return best, ", ".join(f"{one:g}: {right:.0f} %" for one, right in found.items())


def _marks(
    room: Classroom, program: Any, sampling: dict[str, Any], *, about: str = "sums", num_paths: int = 1
) -> Marks:
    """Fewer questions at once where each has more paths, so that none waits long for its last path."""
    runs = [
        [_question(room, program, run, index, sampling) for index in range(room.per_run)]
        for run in range(room.num_runs)
    ]
    return room.marks(runs, about=about, num_streams=max(2, NUM_STREAMS // num_paths))


def _question(room: Classroom, program: Any, run: int, index: int, sampling: dict[str, Any]) -> Question:
    a, b = arithmetic.operands(Random(f"{room.seed}/sum/{run}/{index}"), 3, held_out=True)
    shown = [arithmetic.operands(Random(f"{room.seed}/shown sum/{run}/{one}"), 3) for one in range(3)]
    own = {**sampling, "seed": 1000 * (run + 1) + index} if sampling else {}
    return Question(program=program(shown), variables={"sum": f"{a}+{b}"}, right=str(a + b), sampling=own)


def _direct(shown: list[arithmetic.Operands]) -> dict[str, Any]:
    return {
        "prompt": "{{demonstrations}}\n{{sum}}=",
        "demonstrations": [{"inputs": {"sum": f"{a}+{b}"}, "output": str(a + b)} for a, b in shown],
        "demonstrating": {"before_answer": ""},
        "decoding": {"max_tokens": 8, "stop": ["\n"], "temperature": 0.0},
    }


def _worked(shown: list[arithmetic.Operands]) -> dict[str, Any]:
    return {
        "prompt": "{{demonstrations}}\n{{sum}}?",
        "demonstrations": [
            {"inputs": {"sum": f"{a}+{b}"}, "rationale": f"{arithmetic.steps(a, b)};", "output": str(a + b)}
            for a, b in shown
        ],
        "demonstrating": {"answer": "{{rationale}} {{output}}"},
        "reasoning": {"method": "chain_of_thought"},
        "extraction": {"method": "after", "marker": ";"},
        "decoding": {"max_tokens": 80, "stop": ["\n"], "temperature": 0.0},
    }


def _voting(num_paths: int) -> Any:
    def program(shown: list[arithmetic.Operands]) -> dict[str, Any]:
        worked = _worked(shown)
        # The request says it, for each difficulty: a program whose paths would all be the same is refused.
        decoding = {name: value for name, value in worked["decoding"].items() if name != "temperature"}
        return {**worked, "decoding": decoding, "reasoning": {**worked["reasoning"], "paths": num_paths}}

    return program
