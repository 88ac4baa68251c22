"""Where two recordings differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """One line for each value that is not the same in both."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            inside = f"{place} / {name}" if place else str(name)
            if name not in new:
                yield f"{inside}: only before: {_short(old[name])}"
            elif name not in old:
                yield f"{inside}: only after: {_short(new[name])}"
            else:
                yield from differences(old[name], new[name], inside)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif old != new:
        yield f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "…"
