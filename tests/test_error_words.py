"""The catalogue of errors, walked: each is told in plain words. What is filled in is looked at by `tests/cases`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cases.harness.words import faults_of
from tests.tools.error_catalogue import catalogue

_MAX_CHARACTERS = 500
# A filled-in value whose text is for programmers.
_FOR_PROGRAMMERS = re.compile(r"\{(repr\(|type\(|.*__(name|class|dict|module)__|.*!r)|\{traceback")


def test_every_error_is_told_in_plain_words(repository: Path) -> None:
    found = []
    for words in catalogue(repository):
        problems = faults_of(words.text)
        if _FOR_PROGRAMMERS.search(words.text):
            problems.append("a class or a representation is filled in")
        if len(words.text) > _MAX_CHARACTERS:
            problems.append(f"{len(words.text)} characters")
        if words.text.rstrip().endswith(("!", "…", "...")):
            problems.append("an exclamation, or no end")
        found += [f"{words}: {problem}" for problem in problems]
    assert not found, "\n".join(found)


def test_the_catalogue_is_not_empty(repository: Path) -> None:
    assert len(list(catalogue(repository))) > 300
