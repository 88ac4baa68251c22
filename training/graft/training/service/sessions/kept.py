"""What is on the trainer's disk: states, and which name stands for which version on the server. It outlives sessions
and the trainer.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from graft.training.runtime.disk import replace_text
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.served import Caller

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_STATES, _VERSIONS, _DRAFTS = "states", "versions", "drafts"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version on the server."""

    adapter: str
    digest: str
    training: str
    name: str | None

    @property
    def model(self) -> str:
        """By which the server knows it."""
        return f"{self.adapter}@{self.digest}"


class Kept:
    """Of each caller apart from all others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What was being pushed when a trainer ended was never answered.
        shutil.rmtree(folder / _DRAFTS, ignore_errors=True)

    def new_state(self, caller: Caller, training: str, name: str, *, overwrite: bool) -> Path:
        """Where a state is to be saved. Raises ``Refusal`` where one is there already."""
        folder = self._place(_STATES, caller, training, name)
        if folder.exists() and not overwrite:
            raise Refusal(Kind.INVALID, f"{name!r} is saved already: take another name, or overwrite it.")
        return folder

    def state(self, caller: Caller, training: str, name: str) -> Path:
        """Where a state is. Raises ``Refusal`` where there is none."""
        folder = self._place(_STATES, caller, training, name)
        if not folder.exists():
            raise Refusal(Kind.NOT_FOUND, f"{training} has no state {name!r}: save it first, and look at its name.")
        return folder

    def draft(self, caller: Caller, training: str, number: int) -> Path:
        """Where a version is written before it is pushed; who pushed it removes it."""
        return self._place(_DRAFTS, caller, training, f"{number}")

    def name_version(self, caller: Caller, training: str, name: str, version: Version) -> None:
        path = self._place(_VERSIONS, caller, training, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(asdict(version)))

    def version(self, caller: Caller, training: str, name: str) -> Version:
        """Raises ``Refusal`` where no version has that name."""
        path = self._place(_VERSIONS, caller, training, name)
        try:
            return Version(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise Refusal(
                Kind.NOT_FOUND, f"{training} has published no version {name!r}: save its weights for sampling first."
            ) from None

    def _place(self, kind: str, caller: Caller, training: str, name: str) -> Path:
        owner = training.replace(":", ".")
        self.check_name(owner)
        self.check_name(name)
        return self._folder / kind / caller.owner / owner / name

    @staticmethod
    def check_name(name: str) -> None:
        """Raises ``Refusal`` for one by which a path could escape."""
        if not _NAME.match(name):
            raise Refusal(
                Kind.INVALID, f"{name!r} is no name: letters, digits, '.', '_' and '-', 128 at most, no '.' first."
            )
