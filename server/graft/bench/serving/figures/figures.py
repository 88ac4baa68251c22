"""What was measured: figures by name, those that could not be taken, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

RATIO = "ratio"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number: the median of its runs unless its description says otherwise. `runs` are in the same unit."""

    value: float
    unit: str
    runs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound that a figure is hoped to keep: at least, or at most, `bound`."""

    bound: float
    at_most: bool

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


TARGETS: Mapping[str, Target] = {
    "prefill2048_adapter_ratio": Target(bound=1.10, at_most=True),
    "prefix_first_token": Target(bound=0.35, at_most=True),
    "prefix_options8": Target(bound=1.5, at_most=True),
    "prefix_paths20_tokens": Target(bound=1.25, at_most=True),
    "program_overhead": Target(bound=1.03, at_most=True),
    "step_over_R7": Target(bound=3.0, at_most=True),
    "prefill_peak_mb": Target(bound=64.0, at_most=True),
    "zipf1000_throughput_ratio": Target(bound=0.7, at_most=False),
    "zipf1000_ttft_p99_over_median": Target(bound=3.0, at_most=True),
    "zipf1000_wait_max_over_min": Target(bound=2.0, at_most=True),
}


def median_of(runs: Sequence[float], unit: str) -> Figure:
    """The median of at least one run."""
    return Figure(value=median(runs), unit=unit, runs=tuple(runs))


class Figures:
    """Collects figures and the reasons for those that are missing; `suffix` goes behind every name."""

    def __init__(self) -> None:
        self.suffix = ""
        self._taken: dict[str, Figure] = {}
        self._left_out: dict[str, str] = {}

    def add(self, name: str, figure: Figure) -> None:
        """Keep a figure; says it at once."""
        name += self.suffix
        self._taken[name] = figure
        print(f"  = {describe(name, figure)}", flush=True)

    def leave_out(self, name: str, reason: str) -> None:
        """Say why a figure is missing."""
        self._left_out[name + self.suffix] = reason
        print(f"  - {name + self.suffix} left out: {reason}", flush=True)

    @property
    def taken(self) -> Mapping[str, Figure]:
        return self._taken

    @property
    def left_out(self) -> Mapping[str, str]:
        return self._left_out

    def as_json(self) -> str:
        """A flat object: figure name → value, unit, runs."""
        body = {
            name: {"value": _rounded(each.value), "unit": each.unit, "runs": [_rounded(run) for run in each.runs]}
            for name, each in self._taken.items()
        }
        return json.dumps(body, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON. Raises OSError."""
        path.write_text(self.as_json(), encoding="utf-8")


def describe(name: str, figure: Figure) -> str:
    """One line: value, spread, and whether its target was met."""
    line = f"{name} {figure.value:.4g} {figure.unit}"
    if len(figure.runs) > 1:
        line += f"  ({len(figure.runs)} runs, {min(figure.runs):.4g} to {max(figure.runs):.4g})"
    target = target_of(name)
    if target is not None:
        relation, word = ("≤" if target.at_most else "≥"), ("met" if target.is_met(figure.value) else "missed")
        line += f"  target {relation} {target.bound:g}: {word}"
    return line


def target_of(name: str) -> Target | None:
    """The target of a figure, whatever form its suffix names."""
    return next((target for known, target in TARGETS.items() if name == known or name.startswith(known + "_")), None)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
