"""What a finished pretraining tells people: its page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from graft.training.errors import NotWritten, first_line
from graft.training.job.folder import DATA, Identity
from graft.training.job.lineage import code_version
from graft.training.pretrain.assembly import Assembly
from graft.training.report.page import Section, definitions
from graft.training.report.report import FILE, Report

_log = logging.getLogger(__name__)

MEASURES = ("validation_loss", "perplexity", "accuracy")
"""What is told of held-out text: endings of its metrics' names."""


def write_report(
    work: Path, output: Path, assembly: Assembly, identity: Identity, measured: Mapping[str, float]
) -> None:
    """``report.html`` in ``work``, whose base is finished in ``output``: a page is no reason to lose a training."""
    try:
        _report(output, assembly, identity, measured).write(work)
    except (NotWritten, OSError, ImportError) as error:
        _log.warning("%s is left out: %s", work / FILE, first_line(error))


def _report(output: Path, assembly: Assembly, identity: Identity, measured: Mapping[str, float]) -> Report:
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
        settings=vars(settings),
        sections=[Section(title="On held-out text", body=definitions(held_out))] if held_out else [],
        commands=[f"graft serve --base {output}"] if family.kind == "decoder" else [],
    )
