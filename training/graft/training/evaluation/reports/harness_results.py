"""Results in the shape of lm-evaluation-harness' ``results.json`` (version 0.4.13), one file for each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graft.training.evaluation.running.outcome import Outcome, Setting, metric_of


def results(outcomes: Sequence[Outcome], *, model: str, server: str, seconds_since_epoch: float) -> dict[str, Any]:
    """What the harness would write of one model. A task that was asked in several settings has a name for each."""
    own = [one for one in outcomes if one.model == model]
    settings: dict[str, set[Setting]] = {}
    for one in own:
        settings.setdefault(one.task.name, set()).add(one.setting)
    named = {_name(one, len(settings[one.task.name]) > 1): one for one in own}
    return {
        "results": {name: {"alias": name, **_figures(one)} for name, one in named.items()},
        "group_subtasks": {name: [] for name in named},
        "configs": {name: _config(one) for name, one in named.items()},
        "versions": {name: one.task.version for name, one in named.items()},
        "n-shot": {name: one.setting.shots for name, one in named.items()},
        "higher_is_better": {
            name: {metric.name: metric.higher_is_better for metric in one.task.metrics} for name, one in named.items()
        },
        "n-samples": {
            name: {"original": len(one.task.questions), "effective": len(one.records)} for name, one in named.items()
        },
        "config": {
            "model": "graft",
            "model_args": f"model={model},server={server}",
            "random_seed": own[0].seed,
            "fewshot_seed": own[0].seed,
        },
        "date": seconds_since_epoch,
    }


def _name(one: Outcome, has_settings: bool) -> str:
    return f"{one.task.name} ({one.setting})" if has_settings else one.task.name


def _figures(one: Outcome) -> dict[str, float | str]:
    """``metric,filter`` and ``metric_stderr,filter``, as the harness has them."""
    found: dict[str, float | str] = {}
    for key in one.keys:
        interval, (metric, _, reading) = one.interval(key), key.partition(",")
        found[key] = interval.mean
        error = interval.standard_error
        found[f"{metric}_stderr,{reading}"] = "N/A" if math.isnan(error) else error
    return found


def _config(one: Outcome) -> dict[str, Any]:
    task = one.task
    return {
        "task": task.name,
        "output_type": str(task.kind),
        "num_fewshot": one.setting.shots,
        "description": task.description,
        "target_delimiter": task.target_delimiter,
        "fewshot_delimiter": task.separator,
        "metric_list": [
            {
                "metric": metric_of(task, key).name,
                "aggregation": str(metric_of(task, key).aggregation),
                "higher_is_better": metric_of(task, key).higher_is_better,
            }
            for key in one.keys
        ],
        "generation_kwargs": {"until": list(task.stop), "max_gen_toks": task.max_tokens},
        "repeats": one.setting.votes,
        "metadata": {"version": task.version, "reasoning": one.setting.reasoning},
    }
