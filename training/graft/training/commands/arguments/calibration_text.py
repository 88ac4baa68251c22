"""The texts that steer what becomes of a base's weights, and that tell what did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.adapters.base.base import Base
    from graft.training.compress.calibration import CalibrationText


def calibration_text(path: Path | None, base: Base, *, needed: bool) -> CalibrationText | None:
    """The file's where one is given; a shipped base has its own where a text is ``needed``. Raises ``DataError``."""
    from graft.adapters.base.base import shipped_bases
    from graft.training.compress.calibration import CalibrationText

    if path is not None:
        return CalibrationText.from_file(path)
    if needed and base.path in shipped_bases().values():
        from graft.training.rootstock.corpus.mixture import calibration_documents

        return CalibrationText.of(calibration_documents())
    return None


def held_out_text(path: Path | None, base: Base) -> CalibrationText | None:
    """The file's where one is given; for a shipped base documents of its kinds that steer nothing. Raises
    ``DataError``.
    """
    from graft.adapters.base.base import shipped_bases
    from graft.training.compress.calibration import CalibrationText

    if path is not None:
        return CalibrationText.from_file(path)
    if base.path in shipped_bases().values():
        from graft.training.rootstock.corpus.mixture import held_out_documents

        return CalibrationText.of(held_out_documents())
    return None
