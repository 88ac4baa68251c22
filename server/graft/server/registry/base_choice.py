"""Which base to serve, a registered or shipped one, a folder, or one of a model hub; and in which form."""

from __future__ import annotations

import logging
from pathlib import Path

from graft.adapters.base import hub
from graft.adapters.base.base import Base, find_base, shipped_bases
from graft.adapters.catalog.rows import BaseRecord
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.form import ServingForm

_log = logging.getLogger(__name__)

_MADE_AT_START = (ServingForm.NF4, ServingForm.BF16, ServingForm.FP32)
"""What the engine makes of plain weights while it loads them."""


def choose_base(reference: str, registered: tuple[BaseRecord, ...], *, data: Path) -> Base:
    """Find and read the base. Blocks, for as long as a download takes where `reference` is a model hub's.

    Below the folder `data`, the hashes of its files are kept, and which commit of a hub's repository was taken: the
    next start takes the same. Raises NotFound naming what there is, InvalidBase, StoreFull.
    """
    folder = find_base(reference, registered, hub=hub.Hub(pins=data / hub.FILE_NAME, say=_log.info))
    names = {path.resolve(): name for name, path in shipped_bases().items()}
    names |= {Path(record.path).resolve(): record.identity.name for record in registered}
    return Base.from_folder(folder, names.get(folder.resolve()), cache_dir=data / "hashes")


def choose_form(base: Base, asked: ServingForm | None) -> ServingForm:
    """The form to hold the base in: the folder's own, or for plain weights the one asked for, by default NF4.

    Raises InvalidBase where the folder is not in the form that was asked for and cannot be brought into it.
    """
    if base.form is None and asked in (None, *_MADE_AT_START):
        return asked or ServingForm.NF4
    if base.form is not None and asked in (None, base.form):
        return base.form
    if base.form is not None:
        problem = f"{asked} was asked for, but the weights in {base.path} are {base.form} already"
        remedy = f"leave it out, or serve the plain weights of {base.name}"
    else:
        problem = f"{asked} was asked for, but the weights in {base.path} are plain"
        remedy = f"graft quantize {base.name} --form {asked} --output FOLDER, then graft serve --base FOLDER"
    reason = Reason(field="quantization", problem=problem, remedy=remedy)
    raise InvalidBase(f"the base {base.name} cannot be held in this form", [reason])
