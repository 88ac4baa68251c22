"""Versions that were registered to become an alias's, which has not happened yet: noted outside of the catalog, so that
what a killed server left half done is taken back by the next one.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from graft.adapters.store.session_folder import SessionFolder

_SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A version, by its digest, and whether its adapter was not there before it."""

    tenant: str
    adapter: str
    digest: str
    is_new_adapter: bool


class Intents:
    """One file each. A machine that loses its power may lose them: then the version stays, without the alias."""

    def __init__(self, root: Path) -> None:
        """Several servers may name the same folder. Raises `OSError`, or `StoreFull`."""
        self.left: list[Intent] = []
        """What servers were killed over."""
        self._lock = threading.Lock()
        self._folder = SessionFolder(root, left=self._read)
        for one in self.left:
            self.begin(one)

    def begin(self, intent: Intent) -> None:
        """Before it is registered. Raises `OSError`."""
        self._path(intent).write_text(json.dumps(asdict(intent)), encoding="utf-8")

    def end(self, intent: Intent) -> None:
        """The alias points at it, or it is gone, or it is to stay; waits for a `take_back` that is under way."""
        with self._lock:
            self._path(intent).unlink(missing_ok=True)

    def take_back(self, intent: Intent, delete: Callable[[], bool]) -> bool:
        """End it by `delete`, unless somebody else has ended it before; whether the version is gone.

        Whoever registers the same version ends the intent first: so he finds it deleted, and registers it anew, or it
        stays for him.
        """
        with self._lock:
            path = self._path(intent)
            if not path.exists():
                return False
            is_gone = delete()
            path.unlink()
            return is_gone

    def close(self) -> None:
        """What is still there stays for the next server."""
        if not any(self._folder.path.glob(f"*{_SUFFIX}")):
            self._folder.close()

    def _path(self, intent: Intent) -> Path:
        name = json.dumps([intent.tenant, intent.adapter, intent.digest])
        return self._folder.path / f"{sha256(name.encode()).hexdigest()}{_SUFFIX}"

    def _read(self, session: Path) -> None:
        for path in session.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(ValueError, TypeError):  # killed while it was written: nothing was registered
                self.left.append(Intent(**json.loads(path.read_text(encoding="utf-8"))))
