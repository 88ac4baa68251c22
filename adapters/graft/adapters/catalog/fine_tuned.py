"""Models that jobs have made, and how they are named: `ft:<base>:<tenant>:<suffix>:<job>`, as in OpenAI's API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from graft.adapters.errors import NotFound, Reason

PREFIX = "ft:"
_MAX_STEPS = 5
_STEP = re.compile(r"ckpt-step-([0-9]{1,18})\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What a job has made so far. `version_digest` is None, and `why_not` says why, until it has succeeded.

    `checkpoints` are digests by step, all of versions of `adapter`.
    """

    suffix: str
    adapter: str
    version_digest: str | None
    why_not: str = ""
    checkpoints: Mapping[int, str] = field(default_factory=dict)

    def digest_of(self, name: FineTunedName, reference: str) -> str:
        """Of the version that a name of this model means, which was read from `reference`. Raises NotFound."""
        if name.step is None:
            if self.version_digest is None:
                raise no_model(reference, self.why_not)
            return self.version_digest
        return self.digest_at(name.step, reference)

    def digest_at(self, step: int, reference: str) -> str:
        """Of the version that was saved after a step; `reference` is what asks for it. Raises NotFound."""
        if step not in self.checkpoints:
            steps = ", ".join(map(str, sorted(self.checkpoints)[-_MAX_STEPS:])) or "none"
            raise no_model(reference, f"the job has no checkpoint of step {step}; the latest steps: {steps}")
        return self.checkpoints[step]


@dataclass(frozen=True, kw_only=True)
class FineTunedName:
    """A name, read. Behind it may stand a selector as behind an adapter's: `:<alias>` or `@<version>`."""

    tenant: str
    suffix: str
    job: str
    alias: str | None = None
    version: str | None = None

    @property
    def step(self) -> int | None:
        """Of `:ckpt-step-<N>`; None where it names no checkpoint."""
        match = _STEP.match(self.alias or "")
        return None if match is None else int(match[1])


def name_of(*, base: str, tenant: str, suffix: str, job: str, step: int | None = None) -> str:
    """What the model is called, or its checkpoint; `job` is the part of the job's id that stands in names."""
    name = f"{PREFIX}{base}:{tenant}:{suffix}:{job}"
    return name if step is None else f"{name}:ckpt-step-{step}"


def read_name(reference: str, *, base: str) -> FineTunedName:
    """Raises NotFound for a name that no model of this base can have."""
    begin = f"{PREFIX}{base}:"
    # A base's name may hold an @.
    parts = reference.removeprefix(begin).split(":") if reference.startswith(begin) else []
    if not 3 <= len(parts) <= 4:
        raise no_model(reference, f"a fine-tuned model of this server is {begin}<tenant>:<suffix>:<job>")
    job, at, version = parts[2].partition("@")
    if at and len(parts) == 4:
        raise no_model(reference, "one version is named by :<alias> or by @<version>, not by both")
    return FineTunedName(
        tenant=parts[0],
        suffix=parts[1],
        job=job,
        alias=parts[3] if len(parts) == 4 else None,
        version=version if at else None,
    )


def no_model(reference: str, problem: str, remedy: str = "") -> NotFound:
    """The error of a reference that means nothing."""
    return NotFound(
        f"the model {reference[:200]!r} does not exist", [Reason(field="model", problem=problem, remedy=remedy)]
    )
