"""What a chain has shown: ``chain.json``, and a page with its curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft.client.fine_tuning.values import values_of
from graft.training.chain.chain import Chained
from graft.training.chain.measuring import Measured
from graft.training.chain.settings import PPO, REWARD, SUPERVISED
from graft.training.report.chart import Curve, chart
from graft.training.report.page import Section, page, table, verbatim
from graft.training.runtime.disk import replace_text
from graft.v1 import job_pb2 as pb

PAGE, FILE = "report.html", "chain.json"
_CURVES = {
    SUPERVISED: {"train_loss": "loss of a step's rows"},
    REWARD: {"train_loss": "loss of a step's pairs", "train_pair_accuracy": "share of pairs the right way round"},
    PPO: {
        "train_mean_reward": "reward of a round's answers",
        "kl_per_answer": "divergence from the supervised model (nats)",
    },
}


def write(found: Chained, folder: Path) -> None:
    """Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / FILE, json.dumps(_record(found), indent=1) + "\n")
    shown = found.measured
    rewards = [(name, one.mean, one.low, one.high, one.num) for name, one in shown.intervals.items()]
    kl, gain = shown.kl, shown.gain
    against = [
        ("reward, policy − supervised", gain.difference, gain.low, gain.high),
        (f"divergence from the supervised model, nats an answer (bound {shown.max_kl:g})", kl.mean, kl.low, kl.high),
    ]
    jobs = [(name, job.id, job.fine_tuned_model, job.adapter) for name, job in found.jobs.items()]
    said = "\n\n".join(f"{name}:\n{text}" for name, texts in shown.examples.items() for text in texts)
    sections = [
        Section(title="Rewards of held-out prompts", body=table(("model", "mean", "low", "high", "prompts"), rewards)),
        Section(title="Against the supervised model", body=table(("what", "mean", "low", "high"), against)),
        Section(title="Jobs", body=table(("stage", "job", "model", "adapter"), jobs)),
        *(Section(title=name, body=_figure(found.events[name], curves)) for name, curves in _CURVES.items()),
        Section(title="Answers to the first held-out prompts", body=verbatim(said)),
    ]
    replace_text(folder / PAGE, page("A chain of alignment", told(shown), sections))


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


def _figure(events: Sequence[pb.JobEvent], curves: dict[str, str]) -> str:
    charts = []
    for name, unit in curves.items():
        steps = [values for one in events if one.is_metrics and name in (values := values_of(one.data))]
        curve = Curve(name=name, steps=[one["step"] for one in steps], values=[one[name] for one in steps])
        charts += [chart([curve], unit=unit)] if steps else []
    return f'<div class="charts">{"".join(charts)}</div>'


def _record(found: Chained) -> dict[str, Any]:
    shown = found.measured
    return {
        "jobs": {name: {"id": job.id, "model": job.fine_tuned_model} for name, job in found.jobs.items()},
        "rewards": {name: asdict(one) for name, one in shown.intervals.items()},
        "gain": asdict(shown.gain),
        "kl": asdict(shown.kl),
        "max_kl": shown.max_kl,
        "holds": shown.holds,
    }
