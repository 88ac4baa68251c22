"""Which modules an adapter's configuration means, and with which rank, exactly as PEFT resolves it.

PEFT evaluates several keys as regular expressions (`get_pattern_key`, `check_target_module_exists`); vLLM does so with
`rank_pattern` and `alpha_pattern`, with another library. A pattern may take for ever, so whoever resolves one must not
be the server: `evaluate` does it in a child whose computing time is limited, with both libraries, on the very names
that they will see later.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.errors import Reason

MAX_PATTERN_CHARACTERS = 4096
CPU_SECONDS = 2
_WALL_SECONDS = 60.0
_PLAIN = re.compile(r"[A-Za-z0-9_.^$-]{1,500}\Z")
_FILE = "adapter_config.json"
_ANY_LAYER = r".*?\.[^.]*\.(?P<idx>\d+)\."
_OUTPUT_HEADS = ("lm_head", "embed_out")
# Reads {expressions: [[text, whole]], names, libraries} and writes, for each expression, {name: layer or null}.
_CHILD = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS}))
asked = json.load(sys.stdin)
sys.path += asked["path"]
answers = []
for library in asked["libraries"]:
    library = __import__(library)
    found = []
    for text, whole in asked["expressions"]:
        compiled = library.compile(text)
        tried = ((name, (compiled.fullmatch if whole else compiled.match)(name)) for name in asked["names"])
        found.append({{name: one.groupdict().get("idx") for name, one in tried if one}})
    answers.append(found)
json.dump(answers, sys.stdout)
"""

Expression = tuple[str, bool]
"""A regular expression, and whether it must match a name as a whole instead of its beginning."""


class PatternsTooSlow(Exception):
    """The patterns were not resolved within their time, or not alike by PEFT and the engine; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The modules that are adapted among those asked for, and the rank of each that has another one than `r`."""

    targeted: frozenset[str]
    ranks: Mapping[str, int]


def pattern_reasons(config: Mapping[str, object]) -> Iterator[Reason]:
    """What keeps the keys of an adapter_config.json that name modules from being resolved at all."""
    for field in ("target_modules", "exclude_modules"):
        value = config.get(field)
        if isinstance(value, str) and value and not _is_all_linear(field, value):
            yield from _reasons(field, value, value)
        elif not _is_names(value, may_miss=field == "exclude_modules") and not isinstance(value, str):
            yield Reason(field=f"{_FILE}:{field}", problem="must be a non-empty list of module names, or one pattern")
        elif value == "" and field == "target_modules":
            yield Reason(field=f"{_FILE}:{field}", problem="is empty; it must name modules")
    for field in ("rank_pattern", "alpha_pattern"):
        for key in _mapping(config, field):
            yield from _reasons(field, key, of_key(key))
    layers = config.get("layers_to_transform")
    if layers is not None and not all(type(one) is int for one in _names(layers)):
        yield Reason(field=f"{_FILE}:layers_to_transform", problem="must be a layer's number, or a list of them")
    patterns = config.get("layers_pattern")
    if not _is_names([patterns] if isinstance(patterns, str) and patterns else patterns or None, may_miss=True):
        yield Reason(field=f"{_FILE}:layers_pattern", problem="must be a pattern, or a list of them")
        return
    for text in _names(patterns):
        yield from _reasons("layers_pattern", str(text), of_layer(str(text)))


def _reasons(field: str, pattern: str, expression: str) -> Iterator[Reason]:
    """Why a pattern is not evaluated; `expression` is what PEFT makes of it."""
    problem = None
    if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        problem = f"a pattern has {len(pattern)} characters; from 1 to {MAX_PATTERN_CHARACTERS} are taken"
    elif re.search(r"(?<!\\)(\\\\)*\\[1-9]|\(\?P=|\(\?\(", pattern):
        problem = f"{pattern[:100]!r} refers back to what another part matched, which can take for ever"
    elif _repeats_repeating(pattern):
        problem = f"{pattern[:100]!r} repeats a group that itself repeats or chooses, which can take for ever"
    else:
        try:
            re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            problem = f"{pattern[:100]!r} is no regular expression ({error})"
    if problem is not None:
        yield Reason(field=f"{_FILE}:{field}", problem=problem, remedy="name the modules, or write a simpler pattern")


def _is_names(value: object, *, may_miss: bool) -> bool:
    if value is None:
        return may_miss
    return (
        isinstance(value, list)
        and (may_miss or value != [])
        and all(isinstance(name, str) and 0 < len(name) <= MAX_PATTERN_CHARACTERS for name in value)
    )


def of_key(key: str) -> str:
    """The expression that PEFT makes of a key of `rank_pattern` or `alpha_pattern`."""
    return rf"(.*\.)?({key})$"


def of_layer(pattern: str) -> str:
    """The expression that PEFT makes of a `layers_pattern`."""
    return rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\."


def resolve(config: Mapping[str, object], names: Iterable[str]) -> Resolved:
    """What a checked adapter_config.json says about the modules `names`.

    Raises PatternsTooSlow; OSError where no child can be started.
    """
    names = sorted(names)
    expressions = list(dict.fromkeys(_expressions(config)))
    found = dict(zip(expressions, evaluate(expressions, names), strict=True))
    ranks: dict[str, int] = {}
    for key, rank in _mapping(config, "rank_pattern").items():
        for name in found[of_key(key), False]:
            ranks.setdefault(name, int(str(rank)))  # the first key that matches counts
    return Resolved(targeted=frozenset(name for name in names if _targeted(config, name, found)), ranks=ranks)


def evaluate(expressions: Sequence[Expression], names: Sequence[str]) -> list[Mapping[str, str | None]]:
    """For each expression the names that it matches, with the layer's number where it has a group `idx`.

    Plain names are matched here, anything else in a child. Raises PatternsTooSlow, OSError.
    """
    if not expressions or all(_is_plain(text) for text, _ in expressions):
        return [_matched(re.compile(text), whole, names) for text, whole in expressions]
    spec = importlib.util.find_spec("regex")  # the engine's library
    beside = [str(Path(spec.origin).parents[1])] if spec is not None and spec.origin else []
    libraries = ["re", *(["regex"] if beside else [])]
    asked = {"expressions": expressions, "names": names, "libraries": libraries, "path": beside}
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        child = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True, timeout=_WALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise PatternsTooSlow(f"took longer than {_WALL_SECONDS:g} s") from None
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise PatternsTooSlow(f"took longer than {CPU_SECONDS} s of computing over {len(names)} module names")
    if child.returncode:
        raise PatternsTooSlow("could not be evaluated: " + child.stderr.decode(errors="replace").strip()[-200:])
    first, *others = json.loads(child.stdout)
    if any(other != first for other in others):
        raise PatternsTooSlow("mean other modules to the engine than to PEFT")
    answers: list[Mapping[str, str | None]] = first
    return answers


def _expressions(config: Mapping[str, object]) -> Iterator[Expression]:
    """Every expression that PEFT evaluates for this configuration."""
    for field in ("rank_pattern", "alpha_pattern"):
        yield from ((of_key(key), False) for key in _mapping(config, field))
    for field in ("target_modules", "exclude_modules"):
        text = config.get(field)
        if isinstance(text, str) and text and not _is_all_linear(field, text):
            yield text, True
    if config.get("layers_to_transform") not in (None, []):
        yield from ((text, False) for text in _layer_expressions(config))


def _targeted(config: Mapping[str, object], name: str, found: Mapping[Expression, Mapping[str, str | None]]) -> bool:
    excluded, targets = config.get("exclude_modules"), config["target_modules"]
    if excluded and _named(excluded, name, found):
        return False
    if isinstance(targets, str) and _is_all_linear("target_modules", targets):
        return name.rpartition(".")[2] not in _OUTPUT_HEADS
    if not _named(targets, name, found):
        return False
    layers = config.get("layers_to_transform")
    if layers in (None, []) or isinstance(targets, str) or name in _names(targets):
        return True
    numbers = [found[text, False][name] for text in _layer_expressions(config) if name in found[text, False]]
    return bool(numbers) and str(int(numbers[0] or 0)) in {str(layer) for layer in _names(layers)}


def _named(what: object, name: str, found: Mapping[Expression, Mapping[str, str | None]]) -> bool:
    """Whether `what`, an expression or a list of names and of their ends, means the module."""
    if isinstance(what, str):
        return name in found[what, True]
    return any(name == one or name.endswith(f".{one}") for one in _names(what))


def _layer_expressions(config: Mapping[str, object]) -> list[str]:
    patterns = config.get("layers_pattern")
    texts = [patterns] if isinstance(patterns, str) and patterns else _names(patterns)
    return [of_layer(str(text)) for text in texts] or [_ANY_LAYER]


def _names(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [] if value in (None, "") else [value]


def _mapping(config: Mapping[str, object], field: str) -> Mapping[str, object]:
    value = config.get(field)
    return value if isinstance(value, Mapping) else {}


def _is_all_linear(field: str, text: str) -> bool:
    return field == "target_modules" and text.lower() == "all-linear"


def _is_plain(expression: str) -> bool:
    key = expression.removeprefix(r"(.*\.)?(").removesuffix(")$")
    return expression == _ANY_LAYER or _PLAIN.match(key) is not None


def _matched(compiled: re.Pattern[str], whole: bool, names: Sequence[str]) -> Mapping[str, str | None]:
    tried = ((name, (compiled.fullmatch if whole else compiled.match)(name)) for name in names)
    return {name: one.groupdict().get("idx") for name, one in tried if one}


def _repeats_repeating(pattern: str) -> bool:
    """Whether a group with a quantifier holds another quantifier or a choice: what backtracks exponentially."""
    holds, closed, position = [False], False, 0
    while position < len(pattern):
        sign = pattern[position]
        if sign in "*+{" and closed:
            return True
        closed_now = False
        if sign == "\\":
            position += 1
        elif sign == "[":
            position = _end_of_class(pattern, position)
        elif sign == "(":
            holds.append(False)
            position += 1 if pattern[position + 1 : position + 2] == "?" else 0  # a kind of group, no quantifier
        elif sign == ")" and len(holds) > 1:
            closed_now = holds.pop()
            holds[-1] = holds[-1] or closed_now
        elif sign in "*+?{|":
            holds[-1] = True
        closed = closed_now
        position += 1
    return False


def _end_of_class(pattern: str, start: int) -> int:
    """Where the character class ends that begins at `start`."""
    position = start + 1
    position += pattern[position : position + 1] == "^"
    position += pattern[position : position + 1] == "]"  # first in a class, it is one of its characters
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position
