"""The verbs over the catalog's thread: what is written is seen at once, what others write soon."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.errors import CatalogUnavailable, InvalidReference
from graft.server.errors import BadInput, Violation
from graft.server.prompting.catalog import prompts as prompts_module
from graft.server.prompting.catalog.catalog import PromptCatalog
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.catalog.tables import MIGRATIONS
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.references import read_reference
from graft.server.registry.thread import CatalogThread


def draft(text: str, prompt: str = "greet", **others: tuple[str, ...]) -> Draft:
    return Draft(tenant="default", prompt=prompt, program=PromptProgram(prompt=text), **others)


def opened(folder: Path) -> Database:
    return Database.open(f"sqlite:///{folder}/c.db", migrations=[MIGRATIONS])


@pytest_asyncio.fixture
async def prompts(tmp_path: Path) -> AsyncIterator[Prompts]:
    database = opened(tmp_path)
    thread = CatalogThread(Catalog(database), written=lambda catalog: None)
    yield Prompts(PromptCatalog(database), thread)
    await thread.close()


async def test_what_is_written_is_resolved_at_once(prompts: Prompts) -> None:
    done = await prompts.register(draft("a", labels=("production",)))
    assert done.is_new and prompts.resolve(read_reference("greet"), tenant="default").version is not None
    again = await prompts.register(draft("a"))
    assert not again.is_new and again.version.number == 1
    await prompts.register(draft("b"))
    arguments = {"tenant": "default", "prompt": "greet", "label": "production", "expected_etag": None}
    _, target = await prompts.set_label(**arguments, version="latest", request_id=None)
    assert target.number == 2
    assert prompts.resolve(read_reference("prompt:greet"), tenant="default").version.program.prompt == "b"


async def test_a_caller_that_goes_away_leaves_nothing_half_done(prompts: Prompts) -> None:
    for number in range(20):
        task = asyncio.ensure_future(prompts.register(draft(str(number), labels=("production",))))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await prompts.refresh()
    for entry in prompts.current.of_tenant("default"):
        assert entry.labels["production"].version_number == max(entry.versions)


async def test_what_another_server_writes_is_polled(
    prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts_module, "_POLL_SECONDS", 0.01)
    other = opened(tmp_path)
    polling = asyncio.ensure_future(prompts.poll())
    PromptCatalog(other).register(draft("theirs", labels=("production",)))
    other.close()
    async with asyncio.timeout(20):
        while not prompts.current.entries:
            await asyncio.sleep(0.01)
    # A database that does not answer for a while ends nothing.
    with monkeypatch.context() as broken:
        broken.setattr(PromptCatalog, "refreshed", _unavailable)
        await asyncio.sleep(0.05)
    assert not polling.done()
    polling.cancel()


def _unavailable(*_: object) -> None:
    raise CatalogUnavailable("it does not answer")


async def test_what_lint_refuses_is_not_kept(prompts: Prompts, tmp_path: Path) -> None:
    async def lint(program: PromptProgram) -> Sequence[str]:
        if program.prompt == "bad":
            raise BadInput(Violation(field="program.prompt", problem="is bad"))
        return ("is short",)

    prompts._lint = lint
    assert (await prompts.register(draft("good"))).notices == ("is short",)
    with pytest.raises(BadInput, match="is bad"):
        await prompts.register(draft("bad"))
    (entry,) = prompts.current.of_tenant("default")
    assert len(entry.versions) == 1


async def test_pages_hold_everything_once(prompts: Prompts) -> None:
    names = [f"p{number:02}" for number in range(23)]
    for name in reversed(names):
        await prompts.register(draft("x", prompt=name))
    wanted = {"prefix": "p", "label": "", "tag": ""}
    found, token = [], ""
    while True:
        page = prompts.page("default", **wanted, page_size=5, page_token=token)
        found += [entry.name for entry in page.items]
        token = page.next_page_token or ""
        if not token:
            break
    assert found == names
    first = prompts.page("default", **wanted, page_size=5, page_token="").next_page_token or ""
    with pytest.raises(InvalidReference, match="page_token"):
        prompts.page("default", prefix="q", label="", tag="", page_size=5, page_token=first)
