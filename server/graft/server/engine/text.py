"""Text to token ids at the fronts, and whether they fit: the same for both, before anything is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import takewhile
from typing import Any, Protocol, TypeVar

from graft.adapters.chat.shown import TemplateReads
from graft.server.engine.engine import InvalidRequest
from graft.server.errors import BadInput, Violation
from graft.server.runtime.violations import Violations, shown

T = TypeVar("T")
Turns = Sequence[Mapping[str, Any]]
_PROBE = "\uf8ffanswer\uf8ff"
"""An answer that no template has a reason to change: what it writes around one can be told."""

# No vocabulary in use has longer tokens on average over a whole prompt; a longer text cannot fit the context.
_MAX_CHARACTERS_PER_TOKEN = 64
# Below this, a thread costs more than the tokenizer does.
_INLINE_CHARACTERS = 4096
_INLINE_BYTES = 65_536
_NUM_THREADS = 2


class Tokenizer(Protocol):
    """The base's tokenizer. `render_chat` opens the assistant's turn."""

    @property
    def template_variables(self) -> frozenset[str] | None:
        """What the chat template reads beside the turns; None where the base has no template."""
        ...

    @property
    def template_reads(self) -> TemplateReads:
        """What of tools the chat template shows."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_marked(self, text: str) -> list[int]: ...

    def claimed(self, template: str) -> str: ...

    def settled(self, text: str) -> str: ...

    def unmarked(self, text: str) -> str: ...

    def encode_continuation(self, text: str) -> list[int]: ...

    def render_chat(self, messages: Turns, **variables: Any) -> list[int]: ...

    def chat_text(self, messages: Turns, **variables: Any) -> str: ...

    def encode_answered(self, opened: str, begun: str | None, answer: str, after: str) -> list[int]: ...

    def chat_values(self, messages: Turns, **variables: Any) -> dict[str, Any]: ...

    def encode_rendered(self, text: str) -> list[int]: ...

    def tokens(self, ids: Sequence[int]) -> list[str]: ...

    def spelled(self, ids: Sequence[int]) -> str: ...

    def finished(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, kw_only=True)
class OwnTemplate:
    """An adapter's chat template, what a caller may tell it beside the turns, and what of tools it shows."""

    text: str
    variables: frozenset[str]
    reads: TemplateReads


class ChatRenderer(Protocol):
    """Renders chats by templates that adapters bring, beside this process."""

    async def render(self, template: str, values: Mapping[str, Any], *, field: str) -> str:
        """The chat's text. Raises `BadInput`."""
        ...

    async def described(self, template: str) -> OwnTemplate:
        """What the template reads."""
        ...

    async def fault_of(self, template: str) -> str | None:
        """Why no chat can be rendered with it."""
        ...


class Text:
    """Tokenizes without holding up other requests, and refuses what cannot fit the context unread."""

    def __init__(
        self, tokenizer: Tokenizer, *, vocab_size: int, max_model_tokens: int, chats: ChatRenderer | None = None
    ) -> None:
        """`chats` renders by adapters' own templates; None: nobody brings one."""
        self._tokenizer = tokenizer
        self._chats = chats
        self._own: OwnTemplate | None = None
        self._num_virtual_tokens = 0
        self.vocab_size = vocab_size
        self.max_model_tokens = max_model_tokens
        # Its own, or tokenizing would wait for files.
        self._threads = ThreadPoolExecutor(max_workers=_NUM_THREADS, thread_name_prefix="graft-text")

    async def encode(self, text: str, *, field: str) -> list[int]:
        """Ids of a prompt's text. Raises `BadInput`."""
        return (await self.encode_all({field: text}))[0]

    async def encode_all(self, texts: Mapping[str, str]) -> list[list[int]]:
        """Ids of several prompts, each under its field. Raises `BadInput`."""
        violations = Violations()
        for field, text in texts.items():
            self._check_length(len(text), field, violations)
        violations.raise_any()

        def encode() -> list[list[int]]:
            return [self._tokenizer.encode(text) for text in texts.values()]

        return await self._beside(encode, sum(map(len, texts.values())))

    async def encode_marked(self, text: str, *, field: str) -> list[int]:
        """Ids of a prompt in whose text foreign names of control tokens are marked. Raises `BadInput`."""
        violations = Violations()
        self._check_length(len(text), field, violations)
        violations.raise_any()
        try:
            return await self._beside(lambda: self._tokenizer.encode_marked(text), len(text))
        except InvalidRequest as error:
            raise BadInput(Violation(field=field, problem=str(error))) from error

    async def num_tokens_each(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone. One that cannot fit the context is not read: it has more than the context."""
        limit = _MAX_CHARACTERS_PER_TOKEN * self.max_model_tokens

        def count() -> list[int]:
            return [
                len(self._tokenizer.encode_continuation(text)) if len(text) <= limit else self.max_model_tokens + 1
                for text in texts
            ]

        try:
            return await self._beside(count, sum(len(text) for text in texts if len(text) <= limit))
        except InvalidRequest as error:
            raise BadInput(Violation(field="prompt", problem=str(error))) from error

    def claimed(self, template: str) -> str:
        """A template with its control tokens' names claimed (see `Spelling.claimed`)."""
        return self._tokenizer.claimed(template)

    def settled(self, text: str) -> str:
        """What claimed templates became, with foreign names of control tokens marked (see `Spelling.settled`)."""
        return self._tokenizer.settled(text)

    def unmarked(self, text: str) -> str:
        """A text as it reads without its marks."""
        return self._tokenizer.unmarked(text)

    async def render_chat(
        self,
        messages: Turns,
        *,
        field: str,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Ids of a chat with the assistant's turn opened.

        Raises `BadInput`, and `Overloaded` where too many wait for adapters' own templates.
        """
        violations = Violations()
        self._check_length(_num_characters([messages, variables or {}]), field, violations)
        if self._own is None and self._tokenizer.template_variables is None:
            violations.add(field, "this base has no chat template; send the prompt as text")
        violations.raise_any()
        try:
            if self._own is not None:
                return await self._render_own(self._own, messages, variables or {}, field)
            return await self._in_thread(partial(self._tokenizer.render_chat, messages, **(variables or {})))
        except InvalidRequest as error:
            raise BadInput(Violation(field=field, problem=str(error))) from error

    async def render_answered(self, messages: Turns, answer: str, *, field: str) -> list[int]:
        """Ids of a chat and a finished answer to it, to the token that ends it: what a training reads of such a row.

        Raises as `render_chat` does.
        """
        violations = Violations()
        self._check_length(_num_characters([messages]) + len(answer), field, violations)
        if self._own is None and self._tokenizer.template_variables is None:
            violations.add(field, "this base has no chat template, and answers stand behind chats")
        violations.raise_any()
        finished = [*messages, {"role": "assistant", "content": _PROBE}]
        try:
            opened = await self._chat_text(messages, field, add_generation_prompt=True)
            head, _, after = (await self._chat_text(finished, field, add_generation_prompt=False)).rpartition(_PROBE)
            begun = head[len(opened) :] if head.startswith(opened) else None
            return await self._in_thread(partial(self._tokenizer.encode_answered, opened, begun, answer, after))
        except InvalidRequest as error:
            raise BadInput(Violation(field=field, problem=str(error))) from error

    async def _chat_text(self, messages: Turns, field: str, **variables: Any) -> str:
        if self._own is None:
            return await self._in_thread(partial(self._tokenizer.chat_text, messages, **variables))
        assert self._chats is not None
        return await self._chats.render(self._own.text, self._tokenizer.chat_values(messages, **variables), field=field)

    async def _render_own(
        self, own: OwnTemplate, messages: Turns, variables: Mapping[str, Any], field: str
    ) -> list[int]:
        assert self._chats is not None
        values = self._tokenizer.chat_values(messages, **variables)
        text = await self._chats.render(own.text, values, field=field)
        return await self._beside(lambda: self._tokenizer.encode_rendered(text), len(text))

    def template_variables(self) -> frozenset[str]:
        """What a caller may tell the chat template beside the turns."""
        if self._own is not None:
            return self._own.variables
        return self._tokenizer.template_variables or frozenset()

    def template_reads(self) -> TemplateReads:
        """What of tools the chat template shows."""
        return self._tokenizer.template_reads if self._own is None else self._own.reads

    async def answered_by(self, template: str | None, num_virtual_tokens: int) -> Text:
        """The same for an adapter: chats rendered by its own template (None: by the base's), and the context as much
        shorter as its virtual tokens take.
        """
        if template is None and not num_virtual_tokens:
            return self
        view = copy(self)
        view._num_virtual_tokens = num_virtual_tokens
        view.max_model_tokens = self.max_model_tokens - num_virtual_tokens
        if template is not None:
            assert self._chats is not None, "no template comes in where nothing renders it"
            view._own = await self._chats.described(template)
        return view

    async def continuations(
        self, prompt: str | None, prompt_ids: list[int], texts: Sequence[str], *, field: str
    ) -> list[list[int]]:
        """Ids that each text appends to a prompt. Raises `BadInput`.

        Where the prompt is a text whose ids begin the ids of prompt and continuation together, the rest of those ids:
        what the model would have generated. Where a token would straddle the seam, or the prompt is not a text, the
        continuation's own ids without special tokens.
        """
        violations = Violations()
        before = len(prompt or "")
        for index, text in enumerate(texts):
            self._check_length(before + len(text), f"{field}[{index}]", violations)
        violations.raise_any()

        def encode() -> list[list[int]]:
            return [self._continuation(prompt, prompt_ids, text) for text in texts]

        return await self._beside(encode, sum(before + len(text) for text in texts))

    async def beside(self, call: Callable[[], T], num_bytes: int) -> T:
        """What the call makes of a request of so many bytes: of a large one in a thread, so that no other waits."""
        return call() if num_bytes <= _INLINE_BYTES else await self._in_thread(call)

    async def _beside(self, encode: Callable[[], T], num_characters: int) -> T:
        """Long texts in a thread, short ones at once."""
        return encode() if num_characters < _INLINE_CHARACTERS else await self._in_thread(encode)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _continuation(self, prompt: str | None, prompt_ids: list[int], text: str) -> list[int]:
        if prompt is not None:
            together = self._tokenizer.encode(prompt + text)
            if together[: len(prompt_ids)] == prompt_ids and len(together) > len(prompt_ids):
                return together[len(prompt_ids) :]
        return self._tokenizer.encode_continuation(text)

    def check_ids(self, ids: Sequence[Any], *, field: str, violations: Violations) -> list[int]:
        """Ids of the vocabulary, not more than the context holds."""
        if len(ids) > self.max_model_tokens:
            self.check_fits(len(ids), field=field, violations=violations)
            return []
        allowed = range(self.vocab_size)
        for index, one in violations.until_full(enumerate(ids)):
            if type(one) is not int or one not in allowed:
                violations.add(
                    f"{field}[{index}]", f"is {_id_shown(one)}; token ids are integers, 0 to {self.vocab_size - 1}"
                )
        return list(ids)

    def check_fits(self, num_tokens: int, *, field: str, violations: Violations, what: str = "has") -> None:
        """Prompt and answer share the context: a prompt leaves room for one token at least."""
        most = self.max_model_tokens - 1
        if num_tokens > most:
            beside = (
                f" beside the adapter's {self._num_virtual_tokens} virtual ones" if self._num_virtual_tokens else ""
            )
            violations.add(
                field,
                f"{what} {num_tokens} tokens; the context holds {self.max_model_tokens}{beside}, one of them to "
                f"generate: at most {most} are allowed, shorten it by {num_tokens - most}",
            )

    def shortened(self, ids: Sequence[int], most: int) -> list[int]:
        """`most` tokens of a text's, without its last ones; what the tokenizer puts behind every text stays."""
        tail = self._num_behind
        return [*ids[: most - tail], *ids[len(ids) - tail :]] if most > tail else list(ids[:most])

    @cached_property
    def _num_behind(self) -> int:
        one, other = (reversed(self._tokenizer.encode(text)) for text in "ab")
        return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))

    def bounded(self, max_tokens: int, num_prompt_tokens: int) -> int:
        """Of the tokens asked for at most, those that the context has room for."""
        return min(max_tokens, self.max_model_tokens - num_prompt_tokens)

    async def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token."""
        return await self._beside(lambda: self._tokenizer.tokens(ids), len(ids))

    async def spelled_all(self, prompts: Sequence[Sequence[int]], *, goes_on: bool) -> list[str]:
        """The texts of ids; where more follows, without a character that they begin and do not end."""
        spell = self._tokenizer.finished if goes_on else self._tokenizer.spelled
        return await self._beside(lambda: [spell(ids) for ids in prompts], sum(map(len, prompts)))

    def _check_length(self, num_characters: int, field: str, violations: Violations) -> None:
        limit = _MAX_CHARACTERS_PER_TOKEN * self.max_model_tokens
        if num_characters > limit:
            problem = f"has {num_characters} characters, which cannot fit the context of {self.max_model_tokens} tokens"
            violations.add(field, f"{problem}; the limit is {limit} characters")


def _num_characters(value: Any) -> int:
    """Of all texts in turns and tools."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_num_characters(one) for key, one in value.items() if key != "role")
    return sum(map(_num_characters, value)) if isinstance(value, Sequence) else 0


def _id_shown(one: Any) -> str:
    return repr(one) if isinstance(one, float) else shown(one)
