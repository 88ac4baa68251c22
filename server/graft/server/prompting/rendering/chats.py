"""Chats rendered by templates that adapters bring, in the process that renders Jinja."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.adapters.chat.template import callers_variables, shown_of
from graft.server.engine.text import OwnTemplate
from graft.server.errors import BadInput, Violation
from graft.server.prompting.rendering.bounds import CHAT
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.rendering.templates import Job


class Chats:
    """What `Text` asks of whatever renders foreign chat templates: `ChatRenderer`."""

    def __init__(self, process: TemplateProcess) -> None:
        self._process = process

    async def render(self, template: str, values: Mapping[str, Any], *, field: str) -> str:
        """The chat's text. Raises `BadInput` where the template refuses it, or takes too much."""
        try:
            (text,) = await self._process.render([Job(field=field, template=template, values=values)], style=CHAT)
        except BadInput as error:
            said = "; ".join(one.problem for one in error.violations)
            problem = f"the adapter's chat template refuses this chat: {said}"
            raise BadInput(Violation(field=field, problem=problem)) from error
        return text

    async def described(self, template: str) -> OwnTemplate:
        """What the template reads."""
        (reading,) = await self._process.read([template], style=CHAT)
        return OwnTemplate(
            text=template,
            variables=callers_variables(reading.variables),
            reads=shown_of(reading.variables, reading.words),
        )

    async def fault_of(self, template: str) -> str | None:
        """The reason where no chat at all can be rendered with it, else None."""
        (reading,) = await self._process.read([template], style=CHAT)
        return "; ".join(reading.faults) or None
