"""What a task file says of metrics and filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.training.evaluation.checks.patterns import BadPattern, compiled
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.task import Aggregation, Kind, Metric, Reading, Step

METRICS: dict[Kind, tuple[str, ...]] = {
    Kind.CHOICE: ("acc", "acc_norm", "acc_bytes"),
    Kind.GENERATE: ("exact_match",),
    Kind.LIKELIHOOD: ("perplexity", "acc"),
}
"""Of each kind, its defaults first, as in the harness."""
WHY_NOT = {
    "acc_mutual_info": "it needs each choice's log-probability after the harness' empty context, and no model is asked "
    "for that here"
}
IGNORING = {"ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore"}
FILTERS = ("regex", "take_first", "remove_whitespace", "lowercase", "uppercase", "majority_vote")


def metrics_of(file: Located, given: Any, place: Place, kind: Kind) -> tuple[Metric, ...]:
    """The metrics, or the kind's own where none are named. Notes those that are not supported."""
    if given is None:
        return tuple(_metric(name, {}) for name in METRICS[kind][:2])
    if not isinstance(given, list):
        file.refuse(place, "`metric_list` must be a list.")
        return ()
    found = []
    for index, one in enumerate(given):
        here = (*place, index)
        if not isinstance(one, dict) or one.get("metric") not in METRICS[kind]:
            named = one.get("metric") if isinstance(one, dict) else one
            why = f" ({WHY_NOT[named]})" if isinstance(named, str) and named in WHY_NOT else ""
            file.refuse(here, f"metric `{named}` is not supported for {kind}{why}; use {', '.join(METRICS[kind])}.")
            continue
        aggregation = one.get("aggregation", _aggregation(one["metric"]))
        if aggregation != _aggregation(one["metric"]):
            file.refuse(here, f"`aggregation: {aggregation}` is not supported; use {_aggregation(one['metric'])}.")
        file.unknown(here, one, {"metric", "aggregation", "higher_is_better", *IGNORING})
        _check_patterns(file, here, one.get("regexes_to_ignore", []))
        found.append(_metric(one["metric"], one))
    return tuple(found)


def _aggregation(name: str) -> Aggregation:
    return Aggregation.PERPLEXITY if name == "perplexity" else Aggregation.MEAN


def _metric(name: str, given: Mapping[str, Any]) -> Metric:
    return Metric(
        name=name,
        aggregation=_aggregation(name),
        higher_is_better=bool(given.get("higher_is_better", name != "perplexity")),
        ignore_case=bool(given.get("ignore_case", False)),
        ignore_punctuation=bool(given.get("ignore_punctuation", False)),
        ignore_numbers=bool(given.get("ignore_numbers", False)),
        regexes_to_ignore=tuple(map(str, given.get("regexes_to_ignore", ()))),
    )


def readings_of(file: Located, given: Any, place: Place) -> tuple[Reading, ...]:
    """The chains of filters. Notes those that are not supported."""
    if given is None:
        return (Reading(),)
    if not isinstance(given, list) or not given:
        file.refuse(place, "`filter_list` must be a list.")
        return (Reading(),)
    found = []
    for index, one in enumerate(given):
        here = (*place, index)
        if not isinstance(one, dict) or not isinstance(one.get("filter"), list):
            file.refuse(here, "a filter has `name` and a list `filter`.")
            continue
        steps = [_step(file, (*here, "filter", at), step) for at, step in enumerate(one["filter"])]
        kept = tuple(step for step in steps if step is not None)
        found.append(Reading(name=str(one.get("name", f"filter-{index}")), steps=kept))
    return tuple(found)


def _step(file: Located, place: Place, given: Any) -> Step | None:
    function = given.get("function") if isinstance(given, dict) else given
    if function not in FILTERS:
        file.refuse(place, f"filter `{function}` is not supported; use {', '.join(FILTERS)}.")
        return None
    if function in ("take_first", "majority_vote"):
        return None  # one answer is read of each path, and paths vote by --votes
    if function != "regex":
        return Step(function=str(function))
    file.unknown(place, given, {"function", "regex_pattern", "group_select", "fallback"})
    pattern = str(given.get("regex_pattern", r"#### (\-?[0-9\.\,]+)"))
    _check_patterns(file, place, [pattern])
    group = given.get("group_select", 0)
    return Step(
        function="regex",
        pattern=pattern,
        group=group if isinstance(group, int) else 0,
        fallback=str(given.get("fallback", "[invalid]")),
    )


def _check_patterns(file: Located, place: Place, patterns: Any) -> None:
    for pattern in patterns if isinstance(patterns, list) else []:
        try:
            compiled(str(pattern))
        except BadPattern as problem:
            file.refuse(place, str(problem))
