"""Both template languages behind one pair of verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from graft.server.prompting.program.program import TemplateFormat
from graft.server.prompting.rendering import mustache
from graft.server.prompting.rendering.templates import Job, Reading


class Jinja(Protocol):
    """What renders and reads Jinja's templates: `TemplateProcess`."""

    async def render(self, jobs: Sequence[Job]) -> list[str]: ...

    async def read(self, templates: Sequence[str]) -> list[Reading]: ...


class Templates:
    """Mustache at once, Jinja in its process."""

    def __init__(self, jinja: Jinja) -> None:
        self._jinja = jinja

    async def render(self, form: TemplateFormat, jobs: Sequence[Job]) -> list[str]:
        """Texts of all jobs, in their order. Raises `BadInput`, and `Overloaded` where too many wait for Jinja."""
        return mustache.render_all(jobs) if form is TemplateFormat.MUSTACHE else await self._jinja.render(jobs)

    async def read(self, form: TemplateFormat, templates: Sequence[str]) -> list[Reading]:
        """What each of the templates reads."""
        if form is TemplateFormat.MUSTACHE:
            return [mustache.reading(template) for template in templates]
        return await self._jinja.read(templates)
