"""Which files belong to a base's folder, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from graft.adapters.errors import InvalidBase, Reason

MAX_FILES = 1024
_FILE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|training|graft_base|graft_pruned)\.json"
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
