"""What a base is called on a command line."""

from __future__ import annotations

import shlex
from pathlib import Path

from graft.adapters.base.base import shipped_bases
from graft.adapters.base.hub_id import HubId


def called(base: Path) -> str:
    """By its name where it is shipped or a hub's, else by its folder; as a shell reads it."""
    if (on_hub := HubId.of_folder(base)) is not None:
        return str(on_hub)
    names = [name for name, folder in shipped_bases().items() if folder.resolve() == base.resolve()]
    return names[0] if names else shlex.quote(str(base))
