"""Calls in a reply's text, read as it comes: what is said beside them is content."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from graft.adapters.chat.form import BEGIN
from graft.server.engine.tools.call_text import CallText, NoCall


@dataclass(kw_only=True)
class CallDelta:
    """What call number `index` grew by; `id` and `name` come with its first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(kw_only=True)
class Said:
    """What a piece of the reply adds. Pieces together are the whole, however the reply is cut."""

    content: str = ""
    calls: list[CallDelta] = field(default_factory=list)


def new_call_id() -> str:
    """OpenAI's form."""
    return f"call_{secrets.token_hex(12)}"


class CallReader:
    """One choice's calls. A text that begins as a call does and is none is content, as it stands.

    Blanks before a call belong to it, so that calls on lines of their own leave no content behind.
    """

    def __init__(self, new_id: Callable[[], str] = new_call_id) -> None:
        self.num_calls = 0
        self._new_id = new_id
        self._held = ""  # may be the beginning of a call, with the blanks before it
        self._tag = ""  # the same without the blanks
        self._call: CallText | None = None
        self.is_open = False
        """Whether a call has begun and not ended."""

    def feed(self, text: str) -> Said:
        said = Said()
        for letter in text:
            self._take(letter, said)
        return said

    def end(self) -> Said:
        """What was held back and is no call."""
        said = Said()
        is_framing = self.num_calls > 0 and not self._held.strip()
        if not self.is_open and not is_framing:
            said.content = self._held
        self._held = ""
        return said

    def _take(self, letter: str, said: Said) -> None:
        if self._call is not None:
            self._in_call(self._call, letter, said)
            return
        self._held += letter
        if self._tag or not letter.isspace():
            self._tag += letter
        if self._tag == BEGIN:
            self._call, self._tag = CallText(), ""
        elif not BEGIN.startswith(self._tag):
            self._release(letter, said)

    def _release(self, letter: str, said: Said) -> None:
        """The last character may begin a tag, or the blanks before one, itself."""
        begins_anew = letter.isspace() or letter == BEGIN[0]
        said.content += self._held[: len(self._held) - begins_anew]
        self._held = letter if begins_anew else ""
        self._tag = self._held.strip()

    def _in_call(self, call: CallText, letter: str, said: Said) -> None:
        self._held += letter
        try:
            piece, behind = call.take(letter)
        except NoCall:
            held, self._held, self._call = self._held, "", None
            said.content += held[:-1]
            self._take(letter, said)
            return
        if call.name is not None and not self.is_open:
            self.is_open = True
            said.calls.append(CallDelta(index=self.num_calls, id=self._new_id(), name=call.name))
        if piece:
            self._grow(piece, said)
        if self.is_open:
            self._held = ""
        if call.is_over:
            self._call, self.is_open = None, False
            self.num_calls += 1
            for each in behind:
                self._take(each, said)

    def _grow(self, piece: str, said: Said) -> None:
        if not said.calls or said.calls[-1].index != self.num_calls:
            said.calls.append(CallDelta(index=self.num_calls))
        said.calls[-1].arguments += piece
