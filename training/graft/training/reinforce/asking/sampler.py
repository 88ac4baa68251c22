"""Who answers prompts as the policy does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graft.training.reinforce.rollout import Rollout

Files = Mapping[str, bytes]
"""A version in memory: PEFT's files, and the trainer's record (``adapt.made.in_memory``)."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is answered."""

    row: int
    """By which graders know it."""
    ids: Sequence[int]


class Sampler(Protocol):
    """One that versions of a policy are published to, and that answers by the newest it has."""

    def sample(self, prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        """Several answers to each prompt, drawn by themselves at temperature 1. May be called from another thread while
        a version is published: each answer says which one it is of.
        """

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of each token of answers to one prompt, by the newest version."""

    def publish(self, files: Files, *, step: int) -> str:
        """The policy's weights after so many steps. Returns the version's digest, which answers from now on."""
