"""Bases that were uploaded: each in a folder of its own, named by all its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from graft.adapters.base.base import Base, KnownBase, shipped_bases
from graft.adapters.digest import PREFIX, digest_of_json
from graft.adapters.errors import Conflict
from graft.adapters.names import check_name
from graft.adapters.store import disk


class UploadedBase:
    """A base in a folder of ours alone, read and hashed. Blocks for as long as that takes.

    Raises InvalidReference for the name, InvalidBase with all reasons.
    """

    def __init__(self, folder: Path, name: str, *, sha256: Mapping[str, str]) -> None:
        """`sha256` of every file, as its bytes came."""
        check_name(name, what="base")
        self._folder = folder
        self._moved: Path | None = None
        self._base = Base.from_folder(folder, name)
        self._files_digest = digest_of_json(dict(sorted(sha256.items()))).removeprefix(PREFIX)
        for file in folder.iterdir():
            disk.flush(file)

    def keep(self, root: Path, registered: Iterable[KnownBase]) -> Base:
        """Move it below `root`; the same files under the same name again are the base that is there.

        Raises Conflict where the name is another base's, or the base is there under another name or with other files;
        StoreFull.
        """
        base, target = self._base, root / self._files_digest
        shipped = [(name, Base.from_folder(path).digest) for name, path in shipped_bases().items()]
        known = [(one.identity, Path(one.path)) for one in registered]
        places = {identity.digest: path for identity, path in known}
        same = {base.digest, base.identity.digest_without_config}
        for name, digest in [*((identity.name, identity.digest) for identity, _ in known), *shipped]:
            if name == base.name and digest not in same:
                raise Conflict(f"another base is called {name!r} already, {digest}: choose another name")
            if digest in same and name != base.name:
                raise Conflict(f"this base is here already, under the name {name!r}")
        if any(places.get(digest, target) != target for digest in same):
            raise Conflict(
                f"{base.name!r} is here already, in another form or with other files: its weights, tokenizer, template "
                "and configuration are these, its files are not"
            )
        with disk.full_disk_explained(root):
            root.mkdir(parents=True, exist_ok=True)
            with disk.exclusive(root):
                if not target.exists():
                    disk.publish(self._folder, target)
                    self._moved = target
        return replace(base, path=target)

    def undo(self) -> None:
        """Take away what `keep` moved: the base was not registered."""
        if self._moved is not None:
            disk.remove(self._moved)
