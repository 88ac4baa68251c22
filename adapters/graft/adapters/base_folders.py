"""Bases that were uploaded: each in a folder of its own, named by all its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from graft.adapters import disk
from graft.adapters.base import Base, KnownBase, shipped_bases
from graft.adapters.digest import PREFIX, digest_of_json
from graft.adapters.errors import Conflict, InvalidBase, Reason
from graft.adapters.names import check_name

__all__ = ["MAX_FILES", "UploadedBase", "check_base_files", "is_base_file"]

MAX_FILES = 1024
_FILE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|training|graft_base)\.json"
    r"|model[\w.-]*\.safetensors(\.index\.json)?|tokenizer\.model|spiece\.model|(merges|vocab)\.txt|chat_template\.jinja"
    r"|README\.md",
    re.ASCII,
)


def check_base_files(sizes: Mapping[str, int], *, max_bytes: int) -> None:
    """Raises InvalidBase naming every file that does not belong to a base (no code, no pickles, no folders), or where
    there are too many, or too many bytes in all.
    """
    remedy = "send configuration, tokenizer and safetensors weights only"
    reasons = [
        Reason(field=name[:200], problem="does not belong to a base", remedy=remedy)
        for name in sorted(sizes)
        if not _FILE.fullmatch(name)
    ][:20]
    if not 0 < len(sizes) <= MAX_FILES:
        reasons.append(Reason(field="header.files", problem=f"{len(sizes)} files; from 1 to {MAX_FILES} are taken"))
    if sum(sizes.values()) > max_bytes:
        problem = f"{sum(sizes.values())} bytes in all; the limit is {max_bytes}"
        remedy = "start the server with a larger --max-base-mib"
        reasons.append(Reason(field="header.files", problem=problem, remedy=remedy))
    if reasons:
        raise InvalidBase("the upload was refused", reasons)


def is_base_file(name: str) -> bool:
    """Whether a file of this name belongs to a base's folder."""
    return _FILE.fullmatch(name) is not None


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
        places = {one.digest: Path(one.path) for one in registered}
        same = {base.digest, base.digest_without_config}
        for name, digest in [*((one.name, one.digest) for one in registered), *shipped]:
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
