"""Regular expressions that say which layers learn, tried where one that takes for ever ends only itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graft.adapters.folder.peft_patterns import Expression, PatternsTooSlow, evaluate


class WrongPattern(Exception):
    """A pattern that cannot be used; the text goes on from its name."""


def matched(pattern: str, names: Sequence[str]) -> frozenset[str]:
    """The names that a regular expression matches as a whole. Raises ``WrongPattern``."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise WrongPattern(f"is no regular expression: {error}") from None
    (found,) = tried([(pattern, True)], names)
    return found


def tried(expressions: Sequence[Expression], names: Sequence[str]) -> list[frozenset[str]]:
    """What each matches among the names. Raises ``WrongPattern`` where that takes too long."""
    try:
        return [frozenset(one) for one in evaluate(expressions, names, served=False)]
    except PatternsTooSlow as error:
        raise WrongPattern(f"{error}: name the layers instead, or write a simpler pattern") from None
