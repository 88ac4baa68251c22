"""What can be done with programs while they run: register, label, delete. Runs under way notice nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from graft.adapters.catalog.paging import Page, page_limit, read_token, write_token
from graft.adapters.errors import GraftError
from graft.adapters.names import check_name
from graft.server.errors import BadInput
from graft.server.prompting.catalog.catalog import PromptCatalog
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.quota import Quota
from graft.server.prompting.catalog.snapshot import PromptEntry, PromptSnapshot, ResolvedPrompt
from graft.server.prompting.program.names import check_prompt_name
from graft.server.prompting.program.notices import notices_of
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.references import PromptReference, read_selector
from graft.server.registry.thread import CatalogThread

_log = logging.getLogger(__name__)
_POLL_SECONDS = 5.0
DEFAULT_QUOTA = Quota()
T = TypeVar("T")
Lint = Callable[[PromptProgram], Awaitable[Sequence[str]]]
"""What an author should know of a program's templates, in sentences. Raises `BadInput` where they cannot be used."""


async def no_lint(program: PromptProgram) -> Sequence[str]:
    """Nothing is known of templates."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version that is there now; whether it was not before; what its author should know."""

    version: PromptVersion
    is_new: bool
    notices: tuple[str, ...]


class Prompts:
    """The verbs of one tenant's programs. `current` is replaced after each write, and read in any thread."""

    def __init__(
        self, catalog: PromptCatalog, thread: CatalogThread, *, lint: Lint = no_lint, quota: Quota = DEFAULT_QUOTA
    ) -> None:
        self._catalog = catalog
        self._thread = thread
        self._lint = lint
        self._quota = quota
        self.current = PromptSnapshot()

    async def refresh(self) -> None:
        """Take what changed since, by other processes too."""
        await self._thread.run(self._refresh)

    async def poll(self) -> None:
        """Take what other processes change, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self.refresh()
            except GraftError as error:
                _log.warning("prompts were not read anew: %s", error)

    def resolve(self, reference: PromptReference, *, tenant: str) -> ResolvedPrompt:
        """What a reference means now, from memory. Raises NotFound."""
        return self.current.resolve(reference, tenant=tenant)

    async def register(self, draft: Draft, *, request_id: str | None = None) -> Registered:
        """Keep a version and point its labels at it. Raises `BadInput` for its templates, `QuotaExceeded`, what the
        catalog raises.
        """

        def keep() -> PromptVersion:
            self._quota.check_register(draft, self.current)
            return self._catalog.register(draft, request_id=request_id)

        notices = [*notices_of(draft.program), *await self._lint(draft.program)]
        before = self.current.entries.get((draft.tenant, draft.prompt))
        version = await self._write(keep)
        is_new = before is None or version.number not in before.versions
        if (version.tags, version.commit_message) != (draft.tags, draft.commit_message):
            notices.append(f"this content is version {version.number} already; its tags and message stay what they are")
        return Registered(version=version, is_new=is_new, notices=tuple(notices))

    async def notices(self, version: PromptVersion) -> tuple[str, ...]:
        """What the version's author should know."""
        program = await asyncio.to_thread(lambda: version.program)
        try:
            return (*notices_of(program), *await self._lint(program))
        except BadInput as error:  # it came in when less was asked
            return tuple(f"{one.field}: {one.problem}" for one in error.violations)

    async def set_label(
        self,
        *,
        tenant: str,
        prompt: str,
        label: str,
        version: str,
        expected_etag: str | None,
        request_id: str | None,
    ) -> tuple[PromptLabel, PromptVersion]:
        """Move a label by compare-and-set; what it points at now is returned with it."""
        check_prompt_name(prompt)
        selector = read_selector(version)

        def move() -> PromptLabel:
            self._quota.check_label(tenant, prompt, label, self.current)
            return self._catalog.set_label(
                tenant=tenant,
                prompt=prompt,
                label=label,
                version=selector,
                expected_etag=expected_etag,
                request_id=request_id,
            )

        moved = await self._write(move)
        target = PromptReference(name=prompt, selector=str(moved.version_number))
        return moved, self.resolve(target, tenant=tenant).version

    async def delete_label(self, *, tenant: str, prompt: str, label: str, request_id: str | None) -> None:
        check_prompt_name(prompt)
        check_name(label, what="label")
        await self._write(
            lambda: self._catalog.delete_label(tenant=tenant, prompt=prompt, label=label, request_id=request_id)
        )

    async def delete_version(self, *, tenant: str, prompt: str, version: str, request_id: str | None) -> None:
        check_prompt_name(prompt)
        selector = read_selector(version) or ""
        await self._write(
            lambda: self._catalog.delete_version(tenant=tenant, prompt=prompt, version=selector, request_id=request_id)
        )

    async def delete_prompt(self, *, tenant: str, prompt: str, force: bool, request_id: str | None) -> None:
        check_prompt_name(prompt)
        await self._write(
            lambda: self._catalog.delete_prompt(tenant=tenant, prompt=prompt, force=force, request_id=request_id)
        )

    def matching(self, tenant: str, *, prefix: str = "", label: str = "", tag: str = "") -> Iterator[PromptEntry]:
        """The tenant's programs by name: it begins so, the label is there, the latest version has the tag."""
        for entry in self.current.of_tenant(tenant):
            has_label = not label or label in entry.labels or label == "latest"
            if entry.name.startswith(prefix) and has_label and (not tag or tag in entry.latest.tags):
                yield entry

    def page(
        self, tenant: str, *, prefix: str, label: str, tag: str, page_size: int, page_token: str
    ) -> Page[PromptEntry]:
        """A page of `matching`. Raises InvalidReference."""
        scope = ("prompts", tenant, prefix, label, tag)
        after = read_token(scope, page_token, str)
        found = (one for one in self.matching(tenant, prefix=prefix, label=label, tag=tag) if one.name > (after or ""))
        return _page(list(found), page_size, scope, lambda entry: entry.name)

    def versions_page(self, tenant: str, prompt: str, *, page_size: int, page_token: str) -> Page[PromptVersion]:
        """A page of a program's versions, by number. Raises NotFound, InvalidReference."""
        scope = ("prompt_versions", tenant, prompt)
        after = read_token(scope, page_token, int)
        versions = self.current.get(tenant, prompt).versions.values()
        found = [one for one in versions if one.number > (after or 0)]
        return _page(found, page_size, scope, lambda version: version.number)

    async def _write(self, call: Callable[[], T]) -> T:
        def work() -> T:
            # Quotas count what other servers wrote, too.
            self._refresh()
            done = call()
            self._refresh()
            return done

        return await self._thread.run(work)

    def _refresh(self) -> None:
        # In the catalog's one thread: no older snapshot replaces a newer one.
        self.current = self._catalog.refreshed(self.current)


def _page(items: Sequence[T], page_size: int, scope: Sequence[str], key: Callable[[T], str | int]) -> Page[T]:
    limit = page_limit(page_size)
    token = write_token(scope, key(items[limit - 1])) if len(items) > limit else None
    return Page(items=tuple(items[:limit]), next_page_token=token)
