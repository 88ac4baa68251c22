"""Files of a report, each whole or not there."""

from __future__ import annotations

import contextlib
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Written beside and renamed. Raises OSError that names the file; the one before is left then."""
    draft = path.with_name(f".{path.name}")
    try:
        draft.write_bytes(text.encode("utf-8", errors="replace"))
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
