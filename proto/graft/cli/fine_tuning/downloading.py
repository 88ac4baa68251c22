"""Several files downloaded into one folder, together or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import file_pb2


def download_together(client: Client, files: Sequence[file_pb2.File], folder: Path) -> None:
    """Under their own names, which the folder does not have yet. Raises OSError, and what a call raises."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    near = folder if folder.is_dir() else folder.parent
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=near) as beside:
        for file in files:
            client.download_file(file.id, Path(beside) / Path(file.filename).name)
        folder.mkdir(exist_ok=True)
        for path in Path(beside).iterdir():
            path.replace(folder / path.name)
