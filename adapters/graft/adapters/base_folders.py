"""Bases that were uploaded: each in a folder of its own, named by its digest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from graft.adapters import disk
from graft.adapters.base import Base, KnownBase, shipped_bases
from graft.adapters.digest import PREFIX
from graft.adapters.errors import Conflict, InvalidBase, Reason
from graft.adapters.names import check_name

__all__ = ["check_base_files", "keep_base"]

_FILE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|training|graft_base)\.json"
    r"|model[\w.-]*\.safetensors(\.index\.json)?|tokenizer\.model|spiece\.model|(merges|vocab)\.txt|chat_template\.jinja"
    r"|README\.md",
    re.ASCII,
)


def check_base_files(names: Iterable[str]) -> None:
    """Raises InvalidBase naming every file that does not belong to a base: no code, no pickles, no folders."""
    foreign = sorted({name for name in names if not _FILE.fullmatch(name)})
    if foreign:
        remedy = "send configuration, tokenizer and safetensors weights only"
        reasons = [Reason(field=name[:200], problem="does not belong to a base", remedy=remedy) for name in foreign]
        raise InvalidBase("the upload was refused", reasons)


def keep_base(folder: Path, name: str, root: Path, registered: Iterable[KnownBase]) -> Base:
    """Check the base in `folder` and move it below `root`; the same base again is the one that is there.

    Raises InvalidReference for the name, InvalidBase with all reasons, Conflict where another base has the name,
    StoreFull.
    """
    check_name(name, what="base")
    base = Base.from_folder(folder, name)
    taken = {one.name: one.digest for one in registered}
    taken |= {one: Base.from_folder(path).digest for one, path in shipped_bases().items() if one == name}
    if taken.get(name, base.digest) != base.digest:
        raise Conflict(f"another base is called {name!r} already (its digest is {taken[name]}): choose another name")
    target = root / base.digest.removeprefix(PREFIX)
    with disk.full_disk_explained(root):
        root.mkdir(parents=True, exist_ok=True)
        with disk.exclusive(root):
            if not target.exists():
                for file in folder.iterdir():
                    disk.flush(file)
                disk.publish(folder, target)
    return replace(base, path=target)
