"""The name of a model on a hub, `organisation/name` or `organisation/name@revision`, and which of them a folder is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?\Z", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_CACHED = re.compile(r"models--(?P<organisation>[\w.-]+?)--(?P<name>[\w.-]+)\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class HubId:
    """A repository, and a branch, tag or commit of it; None is its main branch."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, reference: str) -> HubId | None:
        """None for a text that is no such name; whether it exists is not asked."""
        match = _ID.match(reference)
        return None if match is None else cls(**match.groupdict())

    @classmethod
    def of_folder(cls, folder: Path) -> HubId | None:
        """Which repository and commit a snapshot in the hub's local cache is; None for any other folder.

        The cache is laid out as `models--organisation--name/snapshots/<commit>`.
        """
        if folder.parent.name != "snapshots" or not _COMMIT.match(folder.name):
            return None
        match = _CACHED.match(folder.parent.parent.name)
        if match is None:
            return None
        return cls(repository=f"{match['organisation']}/{match['name']}", revision=folder.name)

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def shown(folder: Path) -> str:
    """A folder's name for people and records: `organisation/name@commit` where it is a snapshot of a hub."""
    return str(HubId.of_folder(folder) or folder.name)
