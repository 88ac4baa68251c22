"""What trainings of an adapter on rows have in common, whatever they learn from them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.adapt.adapting import Adapting
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.job.lineage import code_version, data_digest
from graft.training.launch import launching
from graft.training.launch.processes import Job
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.progress import read_metrics
from graft.training.worker.folder import JobFolder
from graft.training.worker.hearing import openai_metrics
from graft.training.worker.methods.hyperparameters import Numbers, num_rows_of
from graft.training.worker.results import result_files
from graft.training.worker.trained import Trained

LARGE = 1_000_000_000
"""Parameters of a base from which on the smaller learning rate is taken, as the settings' help says."""
_SETTINGS = TypeVar("_SETTINGS", bound=AdaptSettings)
_FORMS: Mapping[ServingForm, Mapping[str, bool]] = {
    ServingForm.NF4: {"load_in_4bit": True},
    ServingForm.LLM_INT8: {"load_in_8bit": True},
    ServingForm.BF16: {"load_in_4bit": False},
}


def num_processes(job: JobFolder) -> int:
    return job.ray or int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def numbers_of(job: JobFolder) -> Numbers:
    """The run's numbers. Raises ``ConfigurationError``."""
    return Numbers.of(job.hyperparameters, num_rows=num_rows_of(job.training_file), num_processes=num_processes(job))


def settings_of(job: JobFolder, base: Base, numbers: Numbers, *, learning_rate: float, **more: Any) -> dict[str, Any]:
    """What the server's form, the job and the operator say, the operator last. Raises ``ConfigurationError``."""
    form = {} if base.form is not None else _FORMS.get(job.form)
    if form is None:
        raise ConfigurationError(
            f"the server holds {base.name} as {job.form}, on which nothing is trained here: start the worker with "
            "--training-base and the folder that `graft quantize` made."
        )
    held_out: dict[str, Any] = {}
    if job.validation_file is not None and (steps := eval_steps(job, numbers)):
        held_out = {"validation": str(job.validation_file), "eval_steps": steps}
    start = {} if job.start is None else {"start": str(job.start)}
    return {
        **form,
        **numbers.settings(learning_rate=learning_rate),
        **held_out,
        **start,
        "seed": job.spec.seed,
        "tensorboard": True,
        **more,
        **job.settings,
    }


def eval_steps(job: JobFolder, numbers: Numbers) -> int:
    """From one look at the validation file to the next: so that there are ``n_evals``, or one each epoch; 0: never."""
    per_epoch = -(-num_rows_of(job.training_file) // numbers.batch_size)
    if not job.spec.HasField("n_evals"):
        return per_epoch
    return job.spec.n_evals and max(1, per_epoch * numbers.n_epochs // job.spec.n_evals)


def record_of(job: JobFolder, base: Base, training: Adapting[_SETTINGS]) -> TrainedRecord:
    """What stands beside the weights of the job's checkpoints."""
    lineage = Lineage(
        job=job.id, data_digest=data_digest(job.training_file), code_version=code_version(), seed=training.settings.seed
    )
    return TrainedRecord(base=base.identity, form=training.form, lineage=lineage)


def carried_out(job: JobFolder, training: Job, recipe: Mapping[str, Any]) -> Trained:
    """Trains alone, with the processes of ``torchrun``, or through Ray; goes on from the newest checkpoint.

    Raises what the training does.
    """
    is_resumed = bool(complete_checkpoints(job.work))
    asked = argparse.Namespace(ray=job.ray, ray_address=job.ray_address, resume=is_resumed)
    launching.launch(training, asked)
    rows = read_metrics(job.work)
    tokens, last = sum(int(row["tokens"]) for row in rows), rows[-1]
    known = {name: one for name, one in last.items() if isinstance(one, int | float)}
    return Trained(
        adapter=job.work / "adapter",
        num_steps=int(last["step"]) + 1,
        trained_tokens=tokens,
        metrics=openai_metrics(known),
        files=result_files(job, recipe) if is_first() else (),
    )


def check_way(training: Adapting[_SETTINGS]) -> Path:
    """Raises ``ConfigurationError`` where a server takes nothing of what the operator's settings would make."""
    from graft.training.adapt.method import Route

    method, base = training.method()
    way = method.way(base)
    if way.route not in (Route.AS_IS, Route.PROMPT):
        raise ConfigurationError(
            f"the worker's --settings ask for the method {method.name}, and no server takes what comes out of it "
            f"({way}): take lora."
        )
    return training.work
