"""A request for a job, judged as a whole: what is asked, or all reasons why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graft.adapters.errors import InvalidReference
from graft.adapters.names import check_adapter_name
from graft.server.jobs.job import MAX_SEED, Hyperparameter, JobSpec, Method
from graft.server.releases.draft import check_rows
from graft.server.releases.policy.gate import GateSpec, ValidationLoss
from graft.server.runtime.violations import Violations, shown

AUTO = "auto"
MAX_PAIRS, MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS = 16, 64, 512
MAX_SUFFIX_CHARACTERS = 64
MAX_PRIORITY = 100
MAX_EVALS = 100
_SUFFIX = re.compile(r"[a-z0-9][a-z0-9._-]*\Z", re.ASCII)
_COUNT, _FACTOR = (1, 2**31 - 1), (1e-6, 1e6)
_WORDS: dict[str, tuple[str, ...]] = {
    "reasoning_effort": ("default", "low", "medium", "high"),
    "loss_type": (AUTO, "grpo", "dr_grpo", "dapo", "gspo", "cispo", "ppo", "reinforce", "rloo"),
}
"""Hyperparameters of reinforcement that are no numbers; `loss_type` is not OpenAI's."""
_SHARED: dict[str, tuple[type, tuple[float, float]]] = {
    "batch_size": (int, _COUNT),
    "learning_rate_multiplier": (float, _FACTOR),
    "n_epochs": (int, (1, 10_000)),
}
HYPERPARAMETERS: dict[Method, dict[str, tuple[type, tuple[float, float]]]] = {
    Method.SUPERVISED: _SHARED,
    Method.DPO: {**_SHARED, "beta": (float, _FACTOR)},
    Method.REINFORCEMENT: {
        **_SHARED,
        "compute_multiplier": (float, _FACTOR),
        "eval_interval": (int, _COUNT),
        "eval_samples": (int, _COUNT),
        # Not OpenAI's. What divergence from the job's start costs, and the nats an answer that the cost is led to; an
        # answer's tokens; of a round's answers, how many graders may fail on before the job fails (0: none; 1: all).
        "beta": (float, (0, _FACTOR[1])),
        "kl_target": (float, _FACTOR),
        "max_completion_length": (int, _COUNT),
        "max_grader_error_share": (float, (0, 1)),
    },
    Method.REWARD: _SHARED,
}
"""What can be set for each method, in OpenAI's words: its kind and its limits."""


def read_spec(
    *,
    method: Method,
    model: str,
    training_file: str,
    validation_file: str | None,
    hyperparameters: Mapping[str, Any],
    grader: Mapping[str, Any] | None,
    seed: int | None,
    suffix: str | None,
    metadata: Mapping[str, Any],
    priority: int,
    adapter: str | None = None,
    from_checkpoint: str | None = None,
    dry_run: bool = False,
    n_evals: int | None = None,
    gate: GateSpec | None = None,
    violations: Violations,
    where: str = "hyperparameters",
) -> JobSpec:
    """From what a caller sent; `where` is what its hyperparameters are called there.

    Raises `BadInput` with all that is wrong, `violations` before it too.
    """
    for field, value in (("model", model), ("training_file", training_file)):
        if not value:
            violations.add(field, "is missing")
    if validation_file is not None and validation_file == training_file:
        violations.add("validation_file", "is the training file: what is learned says nothing about what is not")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        violations.add("seed", f"is {shown(seed)}; allowed are 0 to {MAX_SEED}")
    if suffix is not None and (len(suffix) > MAX_SUFFIX_CHARACTERS or not _SUFFIX.match(suffix)):
        problem = f"is {shown(suffix)}; it has 1 to {MAX_SUFFIX_CHARACTERS} characters of a-z, 0-9, '.', '_' and '-'"
        violations.add("suffix", problem)
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        violations.add("priority", f"is {priority}; allowed are {-MAX_PRIORITY} to {MAX_PRIORITY}")
    if n_evals is not None and not 0 <= n_evals <= MAX_EVALS:
        violations.add("n_evals", f"is {n_evals}; allowed are 0 to {MAX_EVALS}")
    elif n_evals and validation_file is None:
        violations.add("n_evals", f"is {n_evals} without a validation_file to look at; give one, or leave it out")
    if dry_run and method is not Method.SUPERVISED:
        violations.add("dry_run", f"is known of supervised jobs, not of {method}; leave it out")
    _check_adapter(adapter, violations)
    if gate is not None:
        check_rows(gate, training_file, validation_file, violations)
        if gate.canary is not None and adapter is None:
            violations.add("gate.canary", "is for an adapter whose requests it answers a share of; name its adapter")
        if method is Method.REWARD:
            violations.add(
                "gate", "is for models that answer with text, and a reward model says a number; leave it out"
            )
        if method is Method.REINFORCEMENT and isinstance(gate.metric, ValidationLoss):
            violations.add("gate.validation_loss", "cannot be: rows of reinforcement have no answers; name a grader")
    _check_grader(method, grader, violations)
    known = _hyperparameters(method, hyperparameters, where, violations)
    pairs = _metadata(metadata, violations)
    violations.raise_any()
    return JobSpec(
        method=method,
        model=model,
        training_file=training_file,
        validation_file=validation_file,
        hyperparameters=known,
        grader=grader,
        seed=seed,
        suffix=suffix,
        metadata=pairs,
        priority=priority,
        adapter=adapter,
        from_checkpoint=from_checkpoint,
        dry_run=dry_run,
        n_evals=n_evals,
        gate=gate,
    )


def _check_adapter(adapter: str | None, violations: Violations) -> None:
    if adapter is None:
        return
    try:
        check_adapter_name(adapter)
    except InvalidReference as error:
        violations.add("adapter", error.reasons[0].problem)


def _check_grader(method: Method, grader: Mapping[str, Any] | None, violations: Violations) -> None:
    if method is Method.REINFORCEMENT and grader is None:
        violations.add("method.reinforcement.grader", "is missing: without it no answer is better than another")
    elif method is not Method.REINFORCEMENT and grader is not None:
        violations.add("grader", f"is given to a job of the method {method}; only reinforcement has one")


def _hyperparameters(
    method: Method, given: Mapping[str, Any], where: str, violations: Violations
) -> dict[str, Hyperparameter]:
    known = HYPERPARAMETERS[method]
    found: dict[str, Hyperparameter] = {}
    for name, value in given.items():
        field = f"{where}.{name[:40]}"
        if name in _WORDS and method is Method.REINFORCEMENT:
            if value not in _WORDS[name]:
                violations.add(field, f"is {shown(value)}; there are {', '.join(_WORDS[name])}")
            found[name] = str(value)
        elif name not in known:
            violations.add(field, f"is not known for {method}; there are {', '.join(known)}")
        elif value == AUTO:
            found[name] = AUTO
        else:
            found[name] = _number(value, *known[name], field, violations)
    return {name: found.get(name, AUTO) for name in known} | found


def _number(value: Any, kind: type, limits: tuple[float, float], field: str, violations: Violations) -> int | float:
    low, high = limits
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (kind is int and value != int(value)):
        what = "a whole number" if kind is int else "a number"
        violations.add(field, f"is {shown(value)}; it is {AUTO} or {what} from {low:g} to {high:g}")
        return 0
    return int(value) if kind is int else float(value)


def _metadata(given: Mapping[str, Any], violations: Violations) -> dict[str, str]:
    if len(given) > MAX_PAIRS:
        violations.add("metadata", f"has {len(given)} pairs; the limit is {MAX_PAIRS}")
    for key, value in violations.until_full(given.items()):
        if not key or len(key) > MAX_KEY_CHARACTERS:
            violations.add("metadata", f"has the key {shown(key)}; a key has 1 to {MAX_KEY_CHARACTERS} characters")
        if not isinstance(value, str) or len(value) > MAX_VALUE_CHARACTERS:
            problem = f"is {shown(value)}; a value is a text of at most {MAX_VALUE_CHARACTERS} characters"
            violations.add(f"metadata.{key[:40]}", problem)
    return dict(given)
