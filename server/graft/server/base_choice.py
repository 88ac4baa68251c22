"""Which base to serve: a registered or shipped one, a folder, or one of a model hub."""

from __future__ import annotations

import re
from pathlib import Path

from graft.adapters.base import Base, find_base, shipped_bases
from graft.adapters.catalog import BaseRecord
from graft.adapters.errors import NotFound

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+\Z", re.ASCII)
# No code and no pickles are fetched.
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model")


def choose_base(reference: str, registered: tuple[BaseRecord, ...], *, cache_dir: Path) -> Base:
    """Find and read the base. Blocks, on the network where `reference` is a hub's id.

    Raises NotFound naming what there is, InvalidBase.
    """
    try:
        folder = find_base(reference, registered)
    except NotFound:
        if not _HUB_ID.match(reference):
            raise
        return Base.from_folder(_fetched(reference), reference, cache_dir=cache_dir)
    names = {path.resolve(): name for name, path in shipped_bases().items()}
    names |= {Path(record.path).resolve(): record.name for record in registered}
    return Base.from_folder(folder, names.get(folder.resolve()), cache_dir=cache_dir)


def _fetched(reference: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        cause = str(error).strip().split("\n", 1)[0][:300]
        raise NotFound(
            f"no base is called {reference!r} here, no such folder exists, and the model hub did not give it: {cause}"
        ) from None
