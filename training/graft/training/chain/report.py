"""What a chain has shown: ``chain.json``, and a page with its figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft.training.chain.measuring import Measured
from graft.training.chain.settings import REINFORCED
from graft.training.loop.progress import read_metrics
from graft.training.report.chart import Curve, chart
from graft.training.report.page import Section, page, table, verbatim
from graft.training.runtime.disk import replace_text

PAGE, FILE = "report.html", "chain.json"
_CURVES = {"reward": "reward of a round's answers", "kl_per_answer": "divergence from the supervised model (nats)"}


def write(found: Measured, work: Path) -> None:
    """Raises ``OSError``."""
    replace_text(work / FILE, json.dumps(_record(found), indent=1) + "\n")
    rewards = [(name, one.mean, one.low, one.high, one.num) for name, one in found.intervals.items()]
    kl, gain = found.kl, found.gain
    against = [
        ("reward, policy − supervised", gain.difference, gain.low, gain.high),
        (f"divergence from the supervised model, nats an answer (bound {found.max_kl:g})", kl.mean, kl.low, kl.high),
    ]
    said = "\n\n".join(f"{name}:\n{text}" for name, texts in found.examples.items() for text in texts)
    sections = [
        Section(title="Rewards of held-out prompts", body=table(("model", "mean", "low", "high", "prompts"), rewards)),
        Section(title="Against the supervised model", body=table(("what", "mean", "low", "high"), against)),
        Section(title="PPO, round by round", body=_figure(work)),
        Section(title="Answers to the first held-out prompts", body=verbatim(said)),
    ]
    replace_text(work / PAGE, page("A chain of alignment", told(found), sections))


def told(found: Measured) -> str:
    """In one sentence."""
    means = ", ".join(
        f"{name} {one.mean:.2f} ({one.low:.2f} to {one.high:.2f})" for name, one in found.intervals.items()
    )
    kl = found.kl
    verdict = "holds" if found.holds else "does not hold"
    return (
        f"held-out reward: {means}; divergence {kl.mean:.2f} ({kl.low:.2f} to {kl.high:.2f}) nats an answer, bound "
        f"{found.max_kl:g}: that the policy is above the supervised model, below the bound, {verdict}"
    )


def _figure(work: Path) -> str:
    rows = read_metrics(work / REINFORCED)
    charts = []
    for name, unit in _CURVES.items():
        steps = [row for row in rows if row.get(name) is not None]
        curve = Curve(name=name, steps=[row["step"] + 1 for row in steps], values=[row[name] for row in steps])
        charts += [chart([curve], unit=unit)] if steps else []
    return f'<div class="charts">{"".join(charts)}</div>'


def _record(found: Measured) -> dict[str, Any]:
    return {
        "rewards": {name: asdict(one) for name, one in found.intervals.items()},
        "gain": asdict(found.gain),
        "kl": asdict(found.kl),
        "max_kl": found.max_kl,
        "holds": found.holds,
    }
