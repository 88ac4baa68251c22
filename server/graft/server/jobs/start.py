"""From what a training begins: found when its job is made, so that every worker begins from the same."""

from __future__ import annotations

import re

from graft.adapters.catalog.fine_tuned import PREFIX, FineTuned, no_model
from graft.adapters.catalog.snapshot import CatalogSnapshot, Resolved
from graft.adapters.errors import InvalidReference, NotFound
from graft.server.jobs.job import JobSpec, Start
from graft.server.runtime.violations import Violations, shown

# Aliases with a share of the traffic answer draws below it; what is asked to be learned from is `stable`.
_STABLE = 1.0
_JOB = re.compile(r"ftjob-([0-9a-z]{26})(?::([0-9]{1,18}))?\Z", re.ASCII)
_CHECKPOINT = re.compile(r"ftckpt-([0-9a-z]{26})-([0-9]{1,18})\Z", re.ASCII)
_SHAPES = "a job's id or its model's name, each with or without a step (ftjob-…:20, ft:…:ckpt-step-20)"


def find_start(spec: JobSpec, snapshot: CatalogSnapshot, *, tenant: str) -> Start | None:
    """The version that `from_checkpoint` or `model` means now; None for the base itself.

    Raises NotFound for a model that there is not, `BadInput` for a checkpoint that there is not.
    """
    model = snapshot.resolve(spec.model, tenant=tenant, draw=_STABLE)
    violations = Violations()
    found = model
    if spec.from_checkpoint is not None:
        try:
            found = _checkpoint(spec.from_checkpoint, snapshot, tenant)
        except (NotFound, InvalidReference) as error:
            violations.add("from_checkpoint", error.reasons[0].problem if error.reasons else str(error))
            found = model
        if model.version is not None and found.version != model.version:
            violations.add(
                "model", f"is {shown(spec.model)}, not what from_checkpoint names: give the base {snapshot.base_name}"
            )
    version = found.version
    field = "model" if spec.from_checkpoint is None else "from_checkpoint"
    if version is not None and (version.num_labels or version.num_virtual_tokens):
        kind = "a head" if version.num_labels else "a soft prompt"
        violations.add(field, f"{version.adapter}@{version.number} has {kind}; a job goes on from a LoRA adapter only")
    violations.raise_any()
    return None if version is None else Start(adapter=version.adapter, version_digest=version.digest)


def _checkpoint(said: str, snapshot: CatalogSnapshot, tenant: str) -> Resolved:
    """Raises NotFound, InvalidReference."""
    if said.startswith(PREFIX):
        return snapshot.resolve(said, tenant=tenant)
    match = _JOB.match(said) or _CHECKPOINT.match(said)
    if match is None:
        raise no_model(said, f"{shown(said)} is none; it is {_SHAPES}, or a checkpoint's id")
    job, step = match[1], match[2]
    made = snapshot.fine_tuned.get((tenant, job))
    if made is None:
        raise no_model(said, f"there is no job 'ftjob-{job}'")
    digest = _digest(made, None if step is None else int(step), said)
    entry = snapshot.entries.get((tenant, made.adapter))
    if entry is None or digest not in entry.versions:
        raise no_model(said, f"its version {digest} of the adapter {made.adapter} was deleted")
    return Resolved(adapter=made.adapter, version=entry.versions[digest], alias=None)


def _digest(made: FineTuned, step: int | None, said: str) -> str:
    """Of a step, or of what the job has made, or of its newest checkpoint where it made nothing."""
    if step is None:
        digest = made.version_digest or made.checkpoints.get(max(made.checkpoints, default=-1))
        if digest is None:
            raise no_model(said, f"{said} has made no checkpoint yet")
        return digest
    return made.digest_at(step, said)
