"""How a base is named on the command line, in the words of ``--help``, and what a name means."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.adapters.base.base import Base

BASE = "name, digest or folder of the base, or a model hub's organisation/name or organisation/name@revision"


def base_of(args: argparse.Namespace, folder: Path) -> Base:
    """What ``--base`` names; of a hub with the revision that is pinned in ``folder``."""
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import FILE_NAME, Hub

    found = find_base(args.base, hub=Hub(pins=folder / FILE_NAME))
    return Base.from_folder(found, cache_dir=_hashes())


def configured(base: str) -> Path:
    """A folder with a base's configuration: of a hub nothing else is fetched."""
    from graft.adapters.base.base import find_base
    from graft.adapters.base.hub import Hub
    from graft.adapters.base.hub_id import HubId

    on_hub = HubId.parse(base)
    is_folder = Path(base).expanduser().is_dir()
    return find_base(base) if on_hub is None or is_folder else Hub(pins=None).tokenizer(on_hub)


def _hashes() -> Path:
    """In the user's cache (XDG Base Directory Specification): the folder that a command runs in is not for that."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "graft" / "hashes"
