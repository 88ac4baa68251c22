"""The grammar of names of prompts and labels."""

from __future__ import annotations

import re

from graft.adapters.digest import digest_prefix
from graft.adapters.errors import InvalidReference, Reason
from graft.adapters.names import check_name

PRODUCTION = "production"
"""The label that a bare name means."""
LATEST = "latest"
"""The label that moves by itself, to each new version."""
MAX_CHARACTERS = 128
_RESERVED = frozenset({"labels", "versions"})
_NAME = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*\Z")


def check_prompt_name(text: str) -> str:
    """`text` if it is a well-formed name that no path can escape by. Raises InvalidReference."""
    problem, parts = None, text.split("/")
    if len(text) > MAX_CHARACTERS:
        problem = f"{text[:40]!r}… has {len(text)} characters; the limit is {MAX_CHARACTERS}"
    elif not _NAME.match(text) or ".." in text or "." in parts:
        problem = (
            f"{text!r} is not a name; names are of letters, digits and ._-, in folders by /, without an empty part, "
            "'.' or '..'"
        )
    elif reserved := sorted(_RESERVED.intersection(parts[1:])):
        problem = f"{text!r} holds the part {reserved[0]!r}, which stands behind names in resources' paths"
    if problem:
        raise InvalidReference("invalid prompt name", [Reason(field="prompt", problem=problem)])
    return text


def check_label(text: str) -> str:
    """`text` if it can be set as a label. Raises InvalidReference."""
    check_name(text, what="label")
    problem = None
    if text == LATEST:
        problem = f"{LATEST!r} moves by itself to each new version and cannot be set"
    elif text.isdigit() or digest_prefix(text) is not None:
        problem = f"{text!r} would be read as a version's number or digest"
    if problem:
        raise InvalidReference("invalid label", [Reason(field="label", problem=problem)])
    return text


def is_version(text: str) -> bool:
    """Whether a selector names a version by number or digest; else it is a label."""
    return (text.isascii() and text.isdigit()) or digest_prefix(text) is not None
