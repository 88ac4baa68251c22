"""A program as canonical JSON, and the digest that identifies its content."""

from __future__ import annotations

import json
from typing import Any

from graft.adapters.digest import digest_of_bytes
from graft.server.prompting.program.program import PromptProgram


def program_object(program: PromptProgram) -> dict[str, Any]:
    """The program as a JSON object without what is default: what was imported, up to formatting.

    Defaults are therefore part of the format: one that changed would change versions that are there already.
    """
    return program.model_dump(mode="json", exclude_defaults=True)


def canonical_json(program: PromptProgram) -> str:
    """One line, fields in the order of `PromptProgram`.

    In free objects the order is the author's and part of the content: a schema's properties are generated in theirs.
    """
    return json.dumps(program_object(program), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(canonical: str) -> str:
    """`sha256:…` of a program's canonical JSON."""
    return digest_of_bytes(canonical.encode())
