"""Greedy answers to all prompts, by whoever gave them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Said:
    """In the prompts' order."""

    ids: list[list[int]]
    texts: list[str]
