"""The prompts of a promptfoo configuration: texts, chats as JSON, and files of either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.training.errors import DataError, of_data
from graft.training.evaluation.asking.model import Prompt, Turn
from graft.training.evaluation.importing.code import NEVER, code_file, code_in
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.template import BadTemplate, Template, parse

TEXTS, CHATS = (".txt", ".md"), (".json",)
OTHER_FILES = (".csv", ".j2", ".jsonl", ".yaml", ".yml")
"""What promptfoo reads as files of prompts, too."""
KEPT_ELSEWHERE = ("langfuse://", "portkey://", "helicone://")
BETWEEN = "\n---\n"
"""Between the prompts of one text file."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A text, or the turns of a chat."""

    text: Template | None = None
    turns: tuple[tuple[str, Template], ...] = ()

    @property
    def templates(self) -> list[Template]:
        """All that are filled in."""
        return [self.text] if self.text is not None else [content for _, content in self.turns]

    def fill(self, variables: Mapping[str, Any]) -> Prompt:
        """The prompt with the variables' values. Raises ``BadTemplate``."""
        if self.text is not None:
            return self.text.fill(variables)
        return tuple(Turn(role=role, content=content.fill(variables)) for role, content in self.turns)


class Prompts:
    """Reads ``prompts``; notes what is not supported."""

    def __init__(self, file: Located) -> None:
        self._file = file

    def read(self) -> list[PromptTemplate]:
        given = self._file.value.get("prompts")
        listed = given if isinstance(given, list) else [given]
        found: list[PromptTemplate] = []
        for index, one in enumerate(listed):
            place: Place = ("prompts", index) if isinstance(given, list) else ("prompts",)
            text = one
            if isinstance(one, dict):
                self._file.unknown(place, one, {"id", "label", "raw", "display"})
                text = one.get("raw", one.get("id"))
            if not isinstance(text, str):
                self._file.refuse(place, "a prompt is a text, or a mapping with `raw`.")
                continue
            found += self._of(place, text)
        return found

    def _of(self, place: Place, text: str) -> list[PromptTemplate]:
        if code := code_in(text) or code_file(text):
            self._file.refuse(place, f"prompt `{code}` {NEVER}")
            return []
        if text.startswith(KEPT_ELSEWHERE):
            self._file.refuse(place, f"prompt `{text[:80]}` is kept elsewhere: write its text here.")
            return []
        path = self._path(text)
        if path is None:
            return self._template(place, text)
        if path.suffix.lower() not in TEXTS + CHATS or "*" in text:
            self._file.refuse(place, f"prompt `{text[:80]}`: a file must be one .txt, .md or .json.")
            return []
        try:
            content = of_data(read_text, path)
        except DataError as error:
            self._file.refuse(place, str(error))
            return []
        texts = content.split(BETWEEN) if path.suffix.lower() in TEXTS else [content]
        return [template for one in texts for template in self._template(place, one.strip("\n"))]

    def _path(self, text: str) -> Path | None:
        """The file that a prompt names, whether it is there or not, as promptfoo takes it: a line that begins with
        ``file://``, ends as names of files do, or is a pattern of names.
        """
        folder = self._file.path.parent
        if text.startswith("file://"):
            return folder / text.removeprefix("file://")
        if "\n" in text:
            return None
        is_pattern = "*" in text and "{{" not in text and not any(one.isspace() for one in text)
        is_name = text.lower().endswith(TEXTS + CHATS + OTHER_FILES)
        return folder / text if is_pattern or is_name or self._is_path(text) else None

    def _is_path(self, text: str) -> bool:
        """Whether it leads to something that is there; promptfoo runs such a file if it may be executed."""
        try:
            return "/" in text and (self._file.path.parent / text).exists()
        except (OSError, ValueError):  # too long for a name, or with a NUL
            return False

    def _template(self, place: Place, text: str) -> list[PromptTemplate]:
        try:
            if (chat := _chat(text)) is not None:
                return [self._of_chat(place, chat)]
            return [PromptTemplate(text=parse(text))]
        except BadTemplate as problem:
            self._file.refuse(place, f"prompt: {problem}")
            return []

    def _of_chat(self, place: Place, chat: list[dict[str, Any]]) -> PromptTemplate:
        turns = []
        for turn in chat:
            role, content = turn.get("role"), turn.get("content")
            if role not in ROLES or not isinstance(content, str):
                self._file.refuse(place, f"a turn has a role ({', '.join(ROLES)}) and a text: {str(turn)[:80]}.")
                continue
            turns.append((ROLES[str(role)], parse(content)))
        return PromptTemplate(turns=tuple(turns))


def _chat(text: str) -> list[dict[str, Any]] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value) else None
