"""What a finished pretraining tells people: its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graft.training.job.folder import DATA, Identity
from graft.training.job.lineage import code_version
from graft.training.pretrain.assembly import Assembly
from graft.training.report.page import Section, definitions
from graft.training.report.report import Report

MEASURES = ("validation_loss", "perplexity", "accuracy")
"""What is told of held-out text: endings of its metrics' names."""


def report(output: Path, assembly: Assembly, identity: Identity, measured: Mapping[str, float]) -> Report:
    """Of the base that is finished in ``output``."""
    settings, family = assembly.settings, assembly.family
    held_out = {name: f"{measured[name]:.4g}" for name in measured if name.endswith(MEASURES)}
    return Report(
        title=f"{output.name}: {family.name} by {assembly.objective_name}",
        lead=f"A pretraining of a {family.kind} on {', '.join(Path(path).name for path in settings.text)}.",
        origin={
            "parameters": f"{sum(one.numel() for one in assembly.skeleton().parameters()):,}",
            "run": identity.run,
            "digests of the text": ", ".join(identity.values[DATA]),
            "code version": code_version(),
            "seed": settings.seed,
        },
        settings=settings,
        sections=[Section(title="On held-out text", body=definitions(held_out))] if held_out else [],
        commands=[f"graft serve --base {output}"] if family.kind == "decoder" else [],
    )
