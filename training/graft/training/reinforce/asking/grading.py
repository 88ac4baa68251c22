"""What answers are worth, in a user's words: a grader of OpenAI's, or a function in Python."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.client import Client, GraftClientError, Observation
from graft.training.errors import ConfigurationError
from graft.training.reinforce.rollout import Rollout

Item = Mapping[str, Any]
Reward = Callable[[Item, str], float | None]
"""A user's own: of a row and an answer's text."""


def by_function(reward: Reward, items: Sequence[Item]) -> Callable[[Sequence[tuple[int, Rollout]]], list[float | None]]:
    """Rounds' ``grade``; ``items`` are the file's rows. It raises ``ConfigurationError`` where the function gives
    anything else than a finite number or None.
    """

    def grade(row: int, answer: Rollout) -> float | None:
        found = reward(items[row], answer.text)
        if found is None:
            return None
        if isinstance(found, bool | int | float) and math.isfinite(found):
            return float(found)
        raise ConfigurationError(
            f"the reward function gave {found!r} for {answer.text!r}: it must give a finite number, or None where "
            "nothing can be said."
        )

    return lambda answers: [grade(row, one) for row, one in answers]


def load_reward(named: str) -> Reward:
    """The function in ``module:function`` or ``file.py:function``. It runs in this process, as the caller's own code.

    Raises ``ConfigurationError``.
    """
    place, colon, name = named.rpartition(":")
    if not (colon and place and name):
        raise ConfigurationError(f"--reward {named!r} names no function; write module:function or file.py:function.")
    try:
        module = _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        found: Reward = getattr(module, name)
    except (ImportError, OSError, SyntaxError, AttributeError) as error:
        raise ConfigurationError(f"--reward {named!r} cannot be loaded: {error}.") from None
    if not callable(found):
        raise ConfigurationError(f"--reward {named!r} is no function.")
    return found


def read_grader(path: Path) -> Mapping[str, Any]:
    """A grader in OpenAI's words. Raises ``ConfigurationError``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--grader {path} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"--grader {path} is no object; write a grader as OpenAI's API has it.")
    return found


def check_grader(client: Client, grader: Mapping[str, Any], item: Item) -> None:
    """Whether the server can read it, before anything is sampled. Raises ``ConfigurationError``."""
    try:
        client.grade(grader, [Observation(output_text="", item=item)], timeout=120.0)
    except GraftClientError as error:
        raise ConfigurationError(f"the server refuses the grader: {error}") from None


def _of_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"graft_reward_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
