"""Which layers of a base a method works on, and with which ranks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from graft.adapters.folder.peft_patterns import of_key
from graft.training.adapt.adaptable import Adaptable, block_of
from graft.training.adapt.patterns import WrongPattern, matched, tried
from graft.training.adapt.settings import MAX_RANK, AdaptSettings
from graft.training.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Layers of a base, by their paths."""

    names: tuple[str, ...]
    """What PEFT is told: ends of paths, as ``layers`` do the rest; whole paths where a regular expression chose."""
    paths: tuple[str, ...]
    layers: tuple[int, ...] | None
    """Numbers of the blocks that they lie in; None for all."""
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    @classmethod
    def of(cls, base: Adaptable, settings: AdaptSettings, default: tuple[str, ...] | None = None) -> Self:
        """What the settings name, ``default`` where they name none, else every layer.

        Raises ``ConfigurationError`` with everything that is wrong.
        """
        wanted = default if settings.target_modules is None else settings.target_modules
        layers = settings.layers_to_transform
        reasons: list[str] = []
        if isinstance(wanted, str):
            paths, told = _matched(base, wanted)
            reasons += told
            if layers is not None:
                reasons.append("setting 'layers_to_transform' is for names: a regular expression chooses by itself")
        else:
            names = base.names if wanted is None else wanted
            reasons += _wrong_names(base, names)
            paths = tuple(path for path in base.layers if any(_is(path, name) for name in names))
        if layers is not None and not isinstance(wanted, str):
            reasons += _wrong_layers(base, layers)
            paths = tuple(path for path in paths if block_of(path) in layers)
        for setting in ("rank_pattern", "alpha_pattern"):
            reasons += _wrong_patterns(setting, getattr(settings, setting) or {}, paths)
        if reasons:
            raise ConfigurationError(f"{'; '.join(reasons)}.")
        chosen = named(base, paths) if isinstance(wanted, str) else tuple(names)
        return cls(
            names=chosen,
            paths=paths,
            layers=layers,
            rank_pattern=settings.rank_pattern or {},
            alpha_pattern=settings.alpha_pattern or {},
        )

    def rank_of(self, path: str, rank: int) -> int:
        """What ``rank_pattern`` says of a layer, else ``rank``: the first key that matches, by PEFT's rule."""
        return next((own for key, own in self.rank_pattern.items() if _fits(key, path)), rank)

    def options(self) -> dict[str, Any]:
        """For a configuration of PEFT's."""
        layers = {} if self.layers is None else {"layers_to_transform": list(self.layers)}
        return {"target_modules": list(self.names), **layers}

    def patterns(self) -> dict[str, Any]:
        """For a configuration that knows ranks of single layers."""
        return {"rank_pattern": dict(self.rank_pattern), "alpha_pattern": dict(self.alpha_pattern)}


def named(base: Adaptable, paths: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest names that mean these layers and no other: their last parts, or whole paths."""
    names = tuple(sorted({path.rpartition(".")[2] for path in paths}))
    means = {path for path in base.layers if any(_is(path, name) for name in names)}
    return names if means == set(paths) else tuple(sorted(paths))


def _matched(base: Adaptable, pattern: str) -> tuple[tuple[str, ...], list[str]]:
    """Layers whose whole path a regular expression matches, by PEFT's rule, and what is wrong with it."""
    setting = f"setting 'target_modules' has the value {pattern!r}"
    try:
        found = matched(pattern, [*base.others, *base.layers])
    except WrongPattern as error:
        return (), [f"{setting}, which {error}"]
    others = [path for path in base.others if path in found]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return (), [f"{setting}, which matches {others[0]}{more}: {_against(base, others[0])}"]
    paths = tuple(path for path in base.layers if path in found)
    if not paths:
        example = next(iter(base.layers), "none")
        return (), [f"{setting}, which matches the whole path of no layer; one of {base.name} is {example}"]
    return paths, []


def _wrong_names(base: Adaptable, names: tuple[str, ...] | list[str]) -> list[str]:
    reasons = [reason for name in names if (reason := _reason(base, name))]
    if not reasons:
        return []
    return [
        f"setting 'target_modules' names what cannot be adapted: {'; '.join(reasons)}. The linear layers of "
        f"{base.name} are {', '.join(base.names)}"
    ]


def _wrong_layers(base: Adaptable, layers: tuple[int, ...]) -> list[str]:
    wrong = [number for number in layers if not 0 <= number < base.num_blocks]
    if not wrong:
        return []
    told = ", ".join(map(str, wrong))
    return [f"setting 'layers_to_transform' names block {told}; {base.name} has blocks 0 to {base.num_blocks - 1}"]


def _wrong_patterns(setting: str, patterns: Mapping[str, float], paths: tuple[str, ...]) -> Iterator[str]:
    found = _found(patterns, paths)
    for key, value in patterns.items():
        if isinstance(found[key], str):
            yield f"setting {setting!r} has the key {key!r}, which {found[key]}"
            continue
        if not found[key]:
            yield f"setting {setting!r} has the key {key!r}, which no layer that is adapted has at its path's end"
        if setting == "rank_pattern" and not 1 <= value <= MAX_RANK:
            yield f"setting {setting!r} has the rank {value} for {key!r}; it must be from 1 to {MAX_RANK}"
        elif value <= 0:
            yield f"setting {setting!r} has the value {value} for {key!r}; it must be above 0"


def _found(patterns: Mapping[str, float], paths: tuple[str, ...]) -> dict[str, frozenset[str] | str]:
    """What each key matches, or what is wrong with it: all keys in one go, each by itself where that takes too long."""
    found: dict[str, frozenset[str] | str] = {}
    for key in patterns:
        try:
            re.compile(of_key(key))
        except re.error as error:
            found[key] = f"is no regular expression: {error}"
    sound = [key for key in patterns if key not in found]
    try:
        return found | dict(zip(sound, tried([(of_key(key), False) for key in sound], paths), strict=True))
    except WrongPattern:
        return found | {key: _alone(key, paths) for key in sound}


def _alone(key: str, paths: tuple[str, ...]) -> frozenset[str] | str:
    try:
        (found,) = tried([(of_key(key), False)], paths)
    except WrongPattern as error:
        return str(error)
    return found


def _reason(base: Adaptable, name: str) -> str | None:
    others = [path for path in base.others if _is(path, name)]
    if others:
        return f"{name!r} {_against(base, next((one for one in others if base.others[one]), others[0]))}"
    if any(_is(path, name) for path in base.layers):
        return None
    near = difflib.get_close_matches(name, base.names, n=1)
    return f"{name!r} is no layer" + (f", did you mean {near[0]!r}?" if near else "")


def _against(base: Adaptable, path: str) -> str:
    if base.others[path]:
        return "is the output head, whose adapter no server takes"
    return "is no linear layer that a server takes adapters on"


def _is(path: str, name: str) -> bool:
    """PEFT's rule: the whole path, or its end."""
    return path == name or path.endswith(f".{name}")


def _fits(key: str, path: str) -> bool:
    """PEFT's rule for keys of patterns."""
    return re.match(of_key(key), path) is not None
