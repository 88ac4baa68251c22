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

from graft.adapters.folder.adaptable import is_head

CPU_SECONDS = 2
_WALL_SECONDS = 60.0
_PLAIN = re.compile(r"[A-Za-z0-9_.^$-]{1,500}\Z")
_ANY_LAYER = r".*?\.[^.]*\.(?P<idx>\d+)\."
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
    expressions = list(dict.fromkeys(expressions_of(config)))
    found = dict(zip(expressions, evaluate(expressions, names), strict=True))
    ranks: dict[str, int] = {}
    for key, rank in mapping_of(config, "rank_pattern").items():
        for name in found[of_key(key), False]:
            ranks.setdefault(name, int(str(rank)))  # the first key that matches counts
    return Resolved(targeted=frozenset(name for name in names if _targeted(config, name, found)), ranks=ranks)


def evaluate(
    expressions: Sequence[Expression], names: Sequence[str], *, served: bool = True
) -> list[Mapping[str, str | None]]:
    """For each expression the names that it matches, with the layer's number where it has a group `idx`.

    Plain names are matched here, anything else in a child: by PEFT's library, and by the engine's if it is to be
    `served`. Raises PatternsTooSlow, OSError.
    """
    if not expressions or all(_is_plain(text) for text, _ in expressions):
        return [_matched(re.compile(text), whole, names) for text, whole in expressions]
    spec = importlib.util.find_spec("regex") if served else None  # the engine's library
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


def expressions_of(config: Mapping[str, object]) -> Iterator[Expression]:
    """Every expression that PEFT evaluates for this configuration."""
    for field in ("rank_pattern", "alpha_pattern"):
        yield from ((of_key(key), False) for key in mapping_of(config, field))
    for field in ("target_modules", "exclude_modules"):
        text = config.get(field)
        if isinstance(text, str) and text and not is_all_linear(field, text):
            yield text, True
    if config.get("layers_to_transform") not in (None, []):
        yield from ((text, False) for text in _layer_expressions(config))


def _targeted(config: Mapping[str, object], name: str, found: Mapping[Expression, Mapping[str, str | None]]) -> bool:
    excluded, targets = config.get("exclude_modules"), config["target_modules"]
    if excluded and _named(excluded, name, found):
        return False
    if isinstance(targets, str) and is_all_linear("target_modules", targets):
        return not is_head(name)
    if not _named(targets, name, found):
        return False
    layers = config.get("layers_to_transform")
    if layers in (None, []) or isinstance(targets, str) or name in names_of(targets):
        return True
    numbers = [found[text, False][name] for text in _layer_expressions(config) if name in found[text, False]]
    return bool(numbers) and str(int(numbers[0] or 0)) in {str(layer) for layer in names_of(layers)}


def _named(what: object, name: str, found: Mapping[Expression, Mapping[str, str | None]]) -> bool:
    """Whether `what`, an expression or a list of names and of their ends, means the module."""
    if isinstance(what, str):
        return name in found[what, True]
    return any(name == one or name.endswith(f".{one}") for one in names_of(what))


def _layer_expressions(config: Mapping[str, object]) -> list[str]:
    patterns = config.get("layers_pattern")
    texts = [patterns] if isinstance(patterns, str) and patterns else names_of(patterns)
    return [of_layer(str(text)) for text in texts] or [_ANY_LAYER]


def names_of(value: object) -> list[object]:
    """A list of names, or the one name."""
    return list(value) if isinstance(value, list | tuple) else [] if value in (None, "") else [value]


def mapping_of(config: Mapping[str, object], field: str) -> Mapping[str, object]:
    """The field's entries; none where it is missing."""
    value = config.get(field)
    return value if isinstance(value, Mapping) else {}


def is_all_linear(field: str, text: str) -> bool:
    """Whether the text is PEFT's word for every linear layer but the output head."""
    return field == "target_modules" and text.lower() == "all-linear"


def _is_plain(expression: str) -> bool:
    key = expression.removeprefix(r"(.*\.)?(").removesuffix(")$")
    return expression == _ANY_LAYER or _PLAIN.match(key) is not None


def _matched(compiled: re.Pattern[str], whole: bool, names: Sequence[str]) -> Mapping[str, str | None]:
    tried = ((name, (compiled.fullmatch if whole else compiled.match)(name)) for name in names)
    return {name: one.groupdict().get("idx") for name, one in tried if one}
