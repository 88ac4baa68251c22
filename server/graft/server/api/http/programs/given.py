"""What a request gives a program: variables, documents, and whether it wants to know the rationale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.prompting.program.documents import MAX_DOCUMENTS, MAX_ID_CHARACTERS
from graft.server.prompting.program.program import Document
from graft.server.runtime.violations import Violations, shown

FIELDS = ("variables", "documents", "withhold_rationale")
"""Of a request that calls a program."""
_OF_DOCUMENT = ("id", "text", "title")
_MAX_FIELD_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True)
class Given:
    """As `RunRequest` has it."""

    variables: dict[str, Any]
    documents: tuple[Document, ...]
    withhold: bool


def read_given(body: Mapping[str, Any], violations: Violations) -> Given:
    """Usable only where no violation was added."""
    variables, withhold = body.get("variables"), body.get("withhold_rationale")
    if not isinstance(variables, Mapping | None):
        violations.add("variables", "must be an object of names and values")
        variables = None
    if not isinstance(withhold, bool | None):
        violations.add("withhold_rationale", f"is {shown(withhold)}; it must be true or false")
    documents = _documents(body.get("documents"), violations)
    return Given(variables=dict(variables or {}), documents=documents, withhold=withhold is True)


def _documents(given: Any, violations: Violations) -> tuple[Document, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        violations.add("documents", f"is {shown(given)}; it must be a list of objects with id and text")
        return ()
    if len(given) > MAX_DOCUMENTS:
        violations.add("documents", f"has {len(given)} documents; at most {MAX_DOCUMENTS} are searched: give fewer")
        return ()
    read = [_document(one, f"documents[{index}]", violations) for index, one in violations.until_full(enumerate(given))]
    return tuple(one for one in read if one is not None)


def _document(given: Any, place: str, violations: Violations) -> Document | None:
    if not isinstance(given, Mapping):
        violations.add(place, f"is {shown(given)}; it must be an object with id, text and, at will, title")
        return None
    for name in violations.until_full(name for name in given if name not in _OF_DOCUMENT):
        violations.add(f"{place}.{name[:_MAX_FIELD_CHARACTERS]}", f"is not known; there are {', '.join(_OF_DOCUMENT)}")
    document_id, text, title = (given.get(name) for name in _OF_DOCUMENT)
    if not isinstance(document_id, str) or not 1 <= len(document_id) <= MAX_ID_CHARACTERS:
        said = "is missing" if document_id is None else f"is {shown(document_id)}"
        violations.add(f"{place}.id", f"{said}; it must be a text of 1 to {MAX_ID_CHARACTERS} characters")
        document_id = None
    if not isinstance(text, str):
        violations.add(f"{place}.text", "is missing" if text is None else f"is {shown(text)}; it must be a text")
    if not isinstance(title, str | None):
        violations.add(f"{place}.title", f"is {shown(title)}; it must be a text")
    if not (isinstance(document_id, str) and isinstance(text, str) and isinstance(title, str | None)):
        return None
    return Document(id=document_id, text=text, title=title or None)
