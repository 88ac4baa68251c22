"""All that can be done for a run before anything is held for it: choose, write, fit, and refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from graft.adapters.catalog.snapshot import Resolved
from graft.server.engine.text import Text
from graft.server.errors import BadInput, Violation
from graft.server.prompting.asking import Written
from graft.server.prompting.choosing.choosing import Chooser, Chosen, check_choosing
from graft.server.prompting.program.program import Decoding, PromptProgram, TemplateFormat
from graft.server.prompting.reasoning.talk import paths_temperature
from graft.server.prompting.rendering.fitting import DemonstrationTokens, Fitted, fit, prompt_room
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.layout import default_stop
from graft.server.prompting.rendering.templates import Job
from graft.server.prompting.rendering.writing import ControlTokens, Draft, draft
from graft.server.prompting.running.request import RunRequest, as_text
from graft.server.prompting.running.served_model import prompt_ids
from graft.server.prompting.sources.picking import Sources, sources
from graft.server.runtime.tenant import current_tenant_or_none
from graft.server.runtime.turns import Turns

DEFAULT_MAX_TOKENS = 256
"""Of each answer or rationale, where neither program nor caller says; a quarter of the context where that is less."""
# Choosing among fewer, or writing them, takes less than a thread costs.
_INLINE_DEMONSTRATIONS = 64
_MAX_PICKING = 64  # of one tenant


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prompt that fits, and what it was made of. `text` renders chats as `resolved`, who is asked, was trained on."""

    request: RunRequest
    resolved: Resolved
    text: Text
    draft: Draft
    fitted: Fitted
    chosen: Chosen
    sources: Sources | None
    max_tokens: int

    @property
    def decoding(self) -> Decoding:
        """What is asked of decoding; a text's answer ends where the next demonstration would begin (see
        `default_stop`), unless something else is said.
        """
        said = self.request.settled_decoding()
        stop = default_stop(self.request.program, self.fitted.shown) if said.stop is None else None
        return said if stop is None else said.model_copy(update={"stop": (stop,)})

    @property
    def temperature(self) -> float:
        """At which what is generated is sampled; greedy where nothing is said and no paths vote."""
        reasoning, output = self.request.program.reasoning, self.request.program.output
        is_scored = reasoning.method == "direct" and output.type == "choices"
        return paths_temperature(self.decoding, 1 if is_scored else reasoning.paths) or 0.0

    @property
    def top_p(self) -> float:
        """The share of probability that is sampled from; all where nothing is said."""
        return 1.0 if self.decoding.top_p is None else self.decoding.top_p

    @property
    def notices(self) -> tuple[str, ...]:
        """What the caller may not expect of the prompt, in sentences."""
        return () if self.sources is None else self.sources.notices


class _DoesNotFit(Exception):
    """Caused by the `BadInput` that says so."""


async def _with_most_passages(
    attempt: Callable[[Sources | None], Awaitable[Prepared]], found: Sources | None
) -> Prepared:
    """Those that score lowest are left out as far as the prompt has no room; how many is found by halving."""
    try:
        try:
            return await attempt(found)
        except _DoesNotFit:
            if found is None or len(found.passages) < 2:
                raise
        best, count, too_many = await attempt(found.best(1)), 1, len(found.passages)
    except _DoesNotFit as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None
    while too_many - count > 1:
        middle = (count + too_many) // 2
        try:
            best, count = await attempt(found.best(middle)), middle
        except _DoesNotFit:
            too_many = middle
    return best


class Preparing:
    """Keeps what later runs of a program use again."""

    def __init__(self, text: Text, templates: Templates) -> None:
        self._text = text
        self._templates = templates
        self._chooser = Chooser()
        # A megabyte takes half a second of a core: one at a time, and no tenant's crowd keeps others waiting.
        self._picking = Turns("documents to be read", max_waiting=_MAX_PICKING)
        self._tokens = DemonstrationTokens(text.num_tokens_each)
        self._controls = ControlTokens(claimed=text.claimed, settled=text.settled, unmarked=text.unmarked)

    async def prepare(self, request: RunRequest, resolved: Resolved, text: Text) -> Prepared:
        """Raises `BadInput` with what keeps the program from being run so."""
        program = request.program
        check_choosing(program)
        max_tokens = self._max_tokens(request)
        chosen = await self._chosen(request)

        async def attempt(found: Sources | None) -> Prepared:
            written = await self.draft(program, request.variables, chosen.indices, found)
            try:
                fitted = await self._fitted(text, written, chosen, request.digest, max_tokens)
            except BadInput as error:
                raise _DoesNotFit from error
            return Prepared(
                request=request,
                resolved=resolved,
                text=text,
                draft=written,
                fitted=fitted,
                chosen=chosen,
                sources=found,
                max_tokens=max_tokens,
            )

        return await _with_most_passages(attempt, await self._sources(request))

    async def draft(
        self,
        program: PromptProgram,
        variables: Mapping[str, Any],
        indices: Sequence[int],
        found: Sources | None = None,
    ) -> Draft:
        """The program's prompt with these demonstrations, by the base's control tokens."""
        text = None if found is None else found.text

        def drafted() -> Coroutine[Any, Any, Draft]:
            return draft(program, variables, indices, self._templates, sources=text, controls=self._controls)

        if program.template_format is TemplateFormat.MUSTACHE and len(indices) > _INLINE_DEMONSTRATIONS:
            # Waits for nothing, so that it may have a loop of its own.
            return await asyncio.to_thread(lambda: asyncio.run(drafted()))
        return await drafted()

    def _max_tokens(self, request: RunRequest) -> int:
        asked, context = request.settled_decoding().max_tokens, self._text.max_model_tokens
        if asked is not None and asked >= context:
            problem = f"is {asked}, and the context holds {context} tokens, the prompt among them: lower it"
            raise BadInput(Violation(field="max_tokens", problem=problem))
        return asked or min(DEFAULT_MAX_TOKENS, context // 4)

    async def _chosen(self, request: RunRequest) -> Chosen:
        program, digest = request.program, request.digest or ""
        chooser = self._chooser if digest else Chooser()
        if len(program.demonstrations) <= _INLINE_DEMONSTRATIONS:
            return chooser.choose(program, digest, request.variables)
        return await asyncio.to_thread(chooser.choose, program, digest, request.variables)

    async def _sources(self, request: RunRequest) -> Sources | None:
        program, sourcing = request.program, request.program.sourcing
        if sourcing is None:
            if request.documents:
                problem = "would be lost: this program shows no sources; give it `sourcing`, be it empty: {}"
                raise BadInput(Violation(field="documents", problem=problem))
            return None
        query = "\n".join(map(as_text, request.variables.values()))
        if sourcing.query is not None:
            job = Job(field="program.sourcing.query", template=sourcing.query, values=dict(request.variables))
            (query,) = await self._templates.render(program.template_format, [job])
        pick = partial(sources, program.documents, request.documents, sourcing, query=query)
        return await self._picking.in_thread(current_tenant_or_none(), pick)

    async def _fitted(self, text: Text, written: Draft, chosen: Chosen, digest: str | None, max_tokens: int) -> Fitted:
        async def num_tokens(prompt: Written) -> int:
            return len(await prompt_ids(prompt, text))

        async def sizes(indices: Sequence[int]) -> list[int]:
            return await self._tokens.of(digest, written, indices)

        context = text.max_model_tokens
        return await fit(
            written,
            chosen.indices,
            chosen.nearest_first,
            max_prompt_tokens=prompt_room(context, min(max_tokens, context - 1)),
            max_model_tokens=context,
            num_tokens=num_tokens,
            sizes=sizes,
        )
