"""The data plane of programs: a reference is resolved, prepared, admitted and run; for both front doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

from graft.server.engine.text import Text
from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.program.notices import notices_of
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.reading import read_program
from graft.server.prompting.program.references import PromptReference
from graft.server.prompting.reasoning.task import Growth
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.lint import lint
from graft.server.prompting.rendering.preview import Preview, preview
from graft.server.prompting.rendering.writing import variables_of
from graft.server.prompting.running.preparing import Prepared, Preparing
from graft.server.prompting.running.request import RunRequest
from graft.server.prompting.running.running import Answer, Running
from graft.server.prompting.running.served_model import ServedModel
from graft.server.serving import Serving, Ticket


class Programs:
    """What both front doors ask of programs."""

    def __init__(self, prompts: Prompts, serving: Serving, text: Text, templates: Templates) -> None:
        self.prompts = prompts
        self._serving = serving
        self._text = text
        self._templates = templates
        self._preparing = Preparing(text, templates)
        self._running = Running(self._preparing)

    @property
    def context_size(self) -> int:
        """Tokens."""
        return self._text.max_model_tokens

    def resolve(self, reference: PromptReference, *, tenant: str) -> PromptVersion:
        """The version that a reference means now: a run keeps it to its end. Raises NotFound, InvalidReference."""
        return self.prompts.resolve(reference, tenant=tenant).version

    async def read(self, text: str) -> PromptProgram:
        """A program that is not registered, as sound as one that is. Raises `BadInput`."""
        program = await asyncio.to_thread(read_program, text)
        await lint(program, self._templates)
        return program

    async def prepare(self, request: RunRequest, *, tenant: str) -> Prepared:
        """Raises what running would before it waits, with nothing held."""
        resolved = self._serving.check(request.model_reference, tenant=tenant)
        text = await self._serving.text_for(resolved, self._text)
        return await self._preparing.prepare(request, resolved, text)

    async def variables(self, program: PromptProgram) -> tuple[str, ...]:
        """What a request gives values to."""
        return await variables_of(program, self._templates)

    async def preview(self, request: RunRequest, *, tenant: str) -> Preview:
        """The prompt as the model would read it. Raises as `prepare`."""
        prepared = await self.prepare(request, tenant=tenant)
        return await preview(
            prepared.draft,
            prepared.fitted,
            count=self._text.num_tokens_each,
            notices=(*notices_of(request.program), *await lint(request.program, self._templates), *prepared.notices),
            variables=await self.variables(request.program),
        )

    def enter(
        self, prepared: Prepared, *, tenant: str, request_id: str, deadline_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Ticket]:
        """As `Serving.enter`, for the model that the request or its program names."""
        return self._serving.enter(
            model=prepared.request.model_reference,
            tenant=tenant,
            request_id=request_id,
            deadline_seconds=deadline_seconds,
            resolved=prepared.resolved,
        )

    async def run(self, prepared: Prepared, ticket: Ticket) -> AsyncGenerator[Growth | Answer, None]:
        """As `Running.run`, asking the ticket's model."""
        asker = ServedModel(self._serving, prepared.text, ticket, default_max_tokens=prepared.max_tokens)
        async with aclosing(self._running.run(asker, prepared, ticket)) as events:
            async for event in events:
                yield event
