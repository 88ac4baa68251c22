"""Commands: found by entry point, imported one at a time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

GROUP = "graft.commands"
BENCHMARKS = "graft.benchmarks"
# What to install where a room's imports fail.
_EXTRAS = {"server": "server,gpu", "training": "training", "cli": "server"}


class Command(Protocol):
    """The three names that a command's module defines; heavy imports stand inside `run`."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the return value is the exit code."""
        ...


class CommandUnavailable(Exception):
    """A command's module cannot be imported here."""


@dataclass(frozen=True, kw_only=True)
class CommandEntry:
    """A command that is installed but not imported yet."""

    name: str
    module: str

    @property
    def remedy(self) -> str:
        """What to install where an import of this command fails."""
        room = self.module.split(".")[1]
        return f'in a clone of Graft, make setup or pip install ".[{_EXTRAS.get(room, room)}]"'

    def load(self) -> Command:
        """Import the command. Raises `CommandUnavailable`, naming the missing module and the extra that brings it."""
        try:
            return cast(Command, import_module(self.module))
        except ModuleNotFoundError as error:
            raise CommandUnavailable(f"needs {error.name}: {self.remedy}") from error

    def help(self) -> str:
        """One line about the command, or why it cannot run."""
        try:
            return self.load().HELP
        except CommandUnavailable as error:
            return f"({error})"


def find_commands(found: Iterable[EntryPoint] | None = None, *, group: str = GROUP) -> Mapping[str, CommandEntry]:
    """Every installed command of the entry-point group by name, sorted."""
    found = entry_points(group=group) if found is None else found
    entries = {entry.name: CommandEntry(name=entry.name, module=entry.value.split(":")[0]) for entry in found}
    return dict(sorted(entries.items()))
