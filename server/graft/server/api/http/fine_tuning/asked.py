"""A body of `POST /v1/fine_tuning/jobs` as what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.http.fine_tuning.gate import read_gate_object
from graft.server.api.http.prompts.fields import Fields
from graft.server.jobs.draft import AUTO, read_spec
from graft.server.jobs.job import JobSpec, Method
from graft.server.runtime.violations import Violations, shown

_FIELDS = (
    "model",
    "training_file",
    "validation_file",
    "method",
    "hyperparameters",
    "seed",
    "suffix",
    "metadata",
    "integrations",
    "priority",
    "adapter",
    "from_checkpoint",
    "dry_run",
    "n_evals",
    "gate",
    "request_id",
)


GRADERS = ("method.reinforcement.grader", "gate.grader")
"""Where graders belong: the job's own, and its gate's."""


def value_in(body: Mapping[str, Any], path: str) -> Any:
    """What stands there; None where nothing does."""
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def read_job(body: Mapping[str, Any], violations: Violations) -> tuple[JobSpec, str | None]:
    """What is asked, and the request's id if it has one; its grader was judged before.

    Raises `BadInput` with all that is wrong, `violations` before it too.
    """
    fields = Fields(body, _FIELDS, violations)
    method, settings, where = _method(fields, violations)
    if fields.get("integrations"):
        fields.add("integrations", "are not supported: read the job's events and result files")
    grader = settings.get("grader")
    spec = read_spec(
        method=method,
        model=fields.text("model"),
        training_file=fields.text("training_file"),
        validation_file=fields.text("validation_file") or None,
        hyperparameters=_hyperparameters(fields, settings, where, violations),
        grader=grader if isinstance(grader, dict) or grader is None else {},
        seed=fields.whole("seed"),
        suffix=fields.text("suffix") or None,
        metadata=fields.object("metadata") or {},
        priority=fields.whole("priority") or 0,
        adapter=fields.text("adapter") or None,
        from_checkpoint=fields.text("from_checkpoint") or None,
        dry_run=fields.truth("dry_run"),
        n_evals=fields.whole("n_evals"),
        gate=read_gate_object(fields.object("gate"), violations),
        violations=violations,
        where=f"{where}.hyperparameters" if where else "hyperparameters",
    )
    return spec, fields.text("request_id") or None


def _method(fields: Fields, violations: Violations) -> tuple[Method, dict[str, Any], str]:
    """The method, its own settings, and where they stand; `supervised` where none is named."""
    given = fields.object("method") or {}
    kind = given.get("type", Method.SUPERVISED.value)
    known = [one.value for one in Method if one is not Method.REWARD]  # OpenAI's; gRPC has one more
    if kind not in known:
        violations.add("method.type", f"is {shown(kind)}; there are {', '.join(known)}")
        return Method.SUPERVISED, {}, ""
    for name in violations.until_full(given):
        # An explicit null is absence, as everywhere.
        if name not in ("type", kind) and given[name] is not None:
            violations.add(f"method.{name[:40]}", f"is not known for the type {kind}")
    settings = Fields(given, tuple(given), violations, where="method.").object(kind) or {}
    for name in violations.until_full(settings):
        if name not in ("hyperparameters", "grader"):
            violations.add(f"method.{kind}.{name[:40]}", "is not known here; there are hyperparameters, grader")
    return Method(kind), settings, f"method.{kind}"


def _hyperparameters(fields: Fields, settings: Mapping[str, Any], where: str, violations: Violations) -> dict[str, Any]:
    """Of the method, or of the request as a whole, where they stood before there were methods."""
    own = Fields(settings, tuple(settings), violations, where=f"{where}.").object("hyperparameters") or {}
    former = fields.object("hyperparameters") or {}
    for name in former:
        if name in own and own[name] != former[name]:
            violations.add(f"hyperparameters.{name[:40]}", f"is another in {where}.hyperparameters; give one")
    return {name: AUTO if value is None else value for name, value in {**former, **own}.items()}
