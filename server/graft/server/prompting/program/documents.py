"""How many documents are searched, and of what size."""

from __future__ import annotations

from collections.abc import Sequence

from graft.server.prompting.program.program import Document
from graft.server.runtime.violations import Violations, shown

MAX_DOCUMENTS = 1000
MAX_ID_CHARACTERS = 128
MAX_CHARACTERS = 1_000_000
"""Of all documents together: what is cut and searched in half a second."""


def check_documents(documents: Sequence[Document], violations: Violations, *, field: str = "documents") -> None:
    """Adds what is wrong with them."""
    if len(documents) > MAX_DOCUMENTS:
        violations.add(field, f"has {len(documents)} documents; at most {MAX_DOCUMENTS} are searched: give fewer")
    num_characters = sum(len(document.text) for document in documents)
    if num_characters > MAX_CHARACTERS:
        allowed = f"at most {MAX_CHARACTERS} are searched: give fewer or shorter ones"
        violations.add(field, f"has {num_characters} characters in all; {allowed}")
    first: dict[str, int] = {}
    for index, document in violations.until_full(enumerate(documents)):
        if first.setdefault(document.id, index) != index:
            violations.add(f"{field}[{index}].id", f"{shown(document.id)} is {field}[{first[document.id]}]'s, too")
        if not document.text.strip():
            violations.add(f"{field}[{index}].text", "is empty: give its text, or leave the document out")
