"""The files that a job leaves: OpenAI's table of steps, every figure of ours, the curves, and what was done."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.training.loop.progress import METRICS, read_metrics
from graft.training.runtime.disk import replace_text
from graft.training.worker.folder import JobFolder
from graft.training.worker.hearing import openai_metrics

TABLE, RECIPE, CURVES = "step_metrics.csv", "recipe.json", "tensorboard.tar"
_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""OpenAI's, as its guide shows the file, with the names that its events have for the same."""


def result_files(job: JobFolder, recipe: Mapping[str, Any]) -> Sequence[Path]:
    """Written into the job's folder. Raises OSError."""
    folder = job.path / "results"
    folder.mkdir(exist_ok=True)
    rows = read_metrics(job.work)
    replace_text(folder / TABLE, table_of(rows))
    replace_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    replace_text(folder / RECIPE, json.dumps(recipe, indent=1, default=str))
    found = [folder / TABLE, folder / METRICS, folder / RECIPE]
    if (job.work / "tensorboard").is_dir():
        with tarfile.open(folder / CURVES, "w") as archive:
            archive.add(job.work / "tensorboard", arcname="tensorboard")
        found.append(folder / CURVES)
    return found


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row of every step; what was not measured in it is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        known = {"step": row["step"] + 1, **openai_metrics(row)}
        writer.writerow([known.get(name, "") for name in _COLUMNS.values()])
    return text.getvalue()
