"""The documents of a file, by what its suffix says that it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.adapters.text.problems import BadLine, UnreadableText, check_characters
from graft.adapters.text.rows import DOCUMENT, LINES, kind_of, read_rows

PROSE = ("", ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".raw", ".tokens")
CODE = (".c", ".cc", ".cpp", ".go", ".h", ".hpp", ".java", ".js", ".kt", ".py", ".rb", ".rs", ".sh", ".sql", ".ts")
_HEADING = re.compile(r" = [^=].* = ")


def read_documents(path: Path) -> list[str]:
    """Of JSON rows each row's ``text``; of WikiText its articles; of any other text the whole, as it stands there.

    Blank documents are left out. A name without suffix is a text's. What ends in ``.gz`` is told by the suffix before.

    Raises:
        UnreadableText: another kind of file, one that holds no text, or one with bad rows, named by file and line.
    """
    kind = kind_of(path)
    if kind in (*LINES, DOCUMENT):
        found = [text for _, text in read_rows(path, text_of)]
    elif kind in (*PROSE, *CODE):
        text = read_text(path)
        found = _articles(text) if _is_wikitext(text) else [text]
    else:
        raise UnreadableText(f"{path}: {kind!r} is no known kind of text; use .txt or .jsonl (or .md, .ndjson, .json).")
    found = [text for text in found if text.strip()]
    if not found:
        raise UnreadableText(f"{path} holds no text.")
    return found


def text_of(row: Any) -> str:
    """A JSON row's ``text``. Raises ``BadLine``."""
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise BadLine('must be an object with "text".')
    text: str = row["text"]
    check_characters(text)
    return text


def _is_wikitext(text: str) -> bool:
    """WikiText (Merity et al. 2016, arXiv:1609.07843) as it is published: every line begins with a blank, the first
    that is not empty is a heading `` = Title = ``.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and _HEADING.fullmatch(lines[0]) is not None and all(line.startswith(" ") for line in lines)


def _articles(text: str) -> list[str]:
    """WikiText's articles, without the blanks around its lines and the empty lines between them."""
    articles: list[list[str]] = []
    for line in text.split("\n"):
        if _HEADING.fullmatch(line):
            articles.append([])
        if line.strip():
            articles[-1].append(line.strip())
    return ["\n".join(lines) for lines in articles]
