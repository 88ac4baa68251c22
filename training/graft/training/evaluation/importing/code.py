"""What in a foreign file would run code, by its name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

CODE_SUFFIXES = (
    ".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".py", ".rb", ".sh", ".bash", ".pl", ".go", ".exe", ".bat", ".cmd",
    ".ps1",
)  # fmt: skip
CODE_PREFIXES = ("exec:", "python:", "javascript:", "ruby:", "golang:", "shell:", "package:")
NEVER = "would run code; nothing of a file is run."

_FUNCTION = re.compile(r":[A-Za-z_][\w.]*$")


def code_file(text: str) -> str | None:
    """A line that ends in the name of a file with code, such as ``prompt.py`` or ``./make.js:build``: promptfoo runs
    it where a prompt or a provider stands. None for any other text.
    """
    if "\n" not in text and _FUNCTION.sub("", text).lower().endswith(CODE_SUFFIXES):
        return text[:80]
    return None


def code_in(text: str) -> str | None:
    """The name of what would be run, such as ``exec:`` or ``file://grade.py``; None for any other text."""
    for prefix in CODE_PREFIXES:
        if text.startswith(prefix):
            return prefix
    if text.startswith("file://"):
        path = text.removeprefix("file://")
        name = path.split(":")[0]
        if PurePosixPath(name).suffix.lower() in CODE_SUFFIXES:
            return text[:80]
    return None
