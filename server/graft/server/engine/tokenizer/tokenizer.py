"""The base's tokenizer and chat template in the server's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from graft.adapters.base import files as base_files
from graft.adapters.chat.opened import behind_opened
from graft.adapters.chat.shown import TemplateReads
from graft.adapters.chat.template import reads_of, variables_of
from graft.adapters.text.spelling import Spelling, Unspellable
from graft.server.engine.engine import InvalidRequest
from graft.server.engine.tokenizer.chat_template import refusals
from graft.server.engine.tokenizer.files import usable_tokenizer
from graft.server.engine.tokenizer.token_bytes import TokenBytes, unfinished


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Text and chats to token ids and back (see `Spelling`)."""

    hugging_face: Any
    stop_ids: Sequence[int] = ()
    """What generation stops at beside the tokenizer's end token."""

    @classmethod
    def from_folder(cls, path: Path | str) -> Tokenizer:
        """Load `tokenizer.json` and its companions; code in the folder is never run.

        Raises InvalidBase, naming the file, where one cannot be read or a chat template does not parse.
        """
        hugging_face = usable_tokenizer(Path(path))
        made = cls(hugging_face=hugging_face, stop_ids=base_files.stop_ids(Path(path)))
        made._spelling.prepare()
        return made

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self.hugging_face, self.stop_ids)

    @cached_property
    def template_variables(self) -> frozenset[str] | None:
        """What the chat template reads beside the turns; None where the base has no template."""
        template = self.template(with_tools=False)
        return variables_of(template) if template else None

    def template(self, *, with_tools: bool) -> str | None:
        """The chat template's text; some bases have another for chats with tools."""
        template = self.hugging_face.chat_template
        if isinstance(template, Mapping):
            own = template.get("tool_use") if with_tools else None
            template = own or template.get("default")
        return template or None

    @cached_property
    def template_reads(self) -> TemplateReads:
        """What of tools the chat template shows."""
        return reads_of(self.template(with_tools=True) or "")

    def encode(self, text: str) -> list[int]:
        """Token ids of a raw prompt. Raises `InvalidRequest` for text that is not valid Unicode."""
        self._check(text)
        return self._spelling.prompt(text)

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of a raw prompt in which the names of control tokens that count were settled (see `Spelling`).

        Raises `InvalidRequest` for text that is not valid Unicode, or that cannot be spelled.
        """
        self._check(text)
        try:
            return self._spelling.marked_prompt(text)
        except Unspellable as error:
            raise InvalidRequest(str(error)) from error

    def claimed(self, template: str) -> str:
        """See `Spelling.claimed`."""
        return self._spelling.claimed(template)

    def settled(self, text: str) -> str:
        """See `Spelling.settled`."""
        return self._spelling.settled(text)

    def unmarked(self, text: str) -> str:
        """See `Spelling.unmarked`."""
        return self._spelling.unmarked(text)

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of text that follows a prompt: no special tokens are put before or after it."""
        self._check(text)
        return self._spelling.continuation(text)

    def render_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """Token ids of a chat, the assistant's turn opened; control tokens' names in messages are text.

        `variables` are what the template reads beside the turns. Raises `InvalidRequest` where it refuses the chat.
        """
        return self.encode_rendered(self.chat_text(messages, **variables))

    def chat_text(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """What `render_chat` encodes."""
        for message in messages:
            self._check(message["content"])
        with refusals():
            marked = self._spelling.marked([dict(message) for message in messages])
            options = {"add_generation_prompt": True, "tokenize": False, **self._spelling.marked(variables)}
            return str(self.hugging_face.apply_chat_template(marked, **options))

    def encode_answered(self, opened: str, begun: str | None, answer: str, after: str) -> list[int]:
        """Token ids of a chat whose last turn is `opened`, and of an answer to the token that ends it; `begun` and
        `after` are what the template writes around a finished one, None where it rewrites what it has opened.

        Raises `InvalidRequest`.
        """
        self._check(answer)
        marked = self._spelling.marked(answer)
        said = behind_opened(opened, marked) if begun is None else begun + marked
        own = self.hugging_face.eos_token_id
        ends = [*([] if own is None else [own]), *self.stop_ids]
        try:
            prompt_ids, ids = self._spelling.seamed(opened, said + after)
            end = next((at for at, one in enumerate(ids) if one in ends), None)
            if end is not None:
                return [*prompt_ids, *ids[: end + 1]]
            # The template ends no answer: trainings put there what does.
            return [*prompt_ids, *self._spelling.seamed(opened, said)[1], *ends[:1]]
        except Unspellable as error:
            raise InvalidRequest(str(error)) from error

    def chat_values(self, messages: Sequence[Mapping[str, str]], **variables: Any) -> dict[str, Any]:
        """What another template than the base's is given, as transformers gives it; `encode_rendered` takes its text.

        Raises `InvalidRequest` for text that is not valid Unicode.
        """
        for message in messages:
            self._check(message["content"])
        given = {"tools": None, "documents": None, **self._spelling.marked(variables)}
        marked = self._spelling.marked([dict(message) for message in messages])
        names = self.hugging_face.special_tokens_map
        return {**names, "add_generation_prompt": True, **given, "messages": marked}

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of what a template has made of `chat_values`. Raises `InvalidRequest`."""
        try:
            return self._spelling.rendered(text)
        except Unspellable as error:
            raise InvalidRequest(str(error)) from error

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it."""
        return [str(token) for token in self.hugging_face.convert_ids_to_tokens(list(ids))]

    def spelled(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens by their names."""
        return str(self.hugging_face.decode(list(ids), skip_special_tokens=False))

    def finished(self, ids: Sequence[int]) -> str:
        """`spelled`, without a character that the last ids begin and do not end."""
        num_tokens, before = unfinished(ids, self._bytes_of)
        return self.spelled(ids[: len(ids) - num_tokens]) + before

    @cached_property
    def _bytes_of(self) -> TokenBytes:
        return TokenBytes(self.hugging_face)

    @staticmethod
    def _check(text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"character {error.start} is a lone surrogate, not text; send valid Unicode", field="prompt"
            ) from error
