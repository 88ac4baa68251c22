"""Adapters' own chat templates: whether one that comes in can be used, and the text of a version's."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from graft.adapters.adapter import AdapterVersion
from graft.adapters.errors import Reason, StoreUnavailable
from graft.adapters.folder.manifest import TEMPLATE_FILE
from graft.server.engine.text import ChatRenderer

MAX_TEMPLATE_BYTES = 1 << 20
_NUM_KEPT = 64
_FETCH_SECONDS = 10.0
_REMEDY = "mend the template, or remove it, so that chats are rendered by the base's"


class ChatTemplates:
    """Texts of versions' templates, fetched once; those used last stay in memory."""

    def __init__(self, read: Callable[[AdapterVersion, str], bytes], renderer: ChatRenderer) -> None:
        """`read` gives the bytes of a version's file, in a thread."""
        self._read = read
        self._renderer = renderer
        self._known: OrderedDict[str, str] = OrderedDict()
        # A store that hangs must not take the threads of all else.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="graft-templates")

    async def of(self, version: AdapterVersion | None) -> str | None:
        """What chats with the version are rendered by; None: the base's template. Raises StoreUnavailable."""
        sha256 = _own(version)
        if version is None or sha256 is None:
            return None
        found = self._known.pop(sha256, None)
        if found is None:
            found = await self._fetched(version)
        self._known[sha256] = found
        while len(self._known) > _NUM_KEPT:
            self._known.popitem(last=False)
        return found

    async def reasons(self, data: bytes) -> list[Reason]:
        """Why a template cannot be used, without rendering anything."""
        if len(data) > MAX_TEMPLATE_BYTES:
            problem = f"has {len(data)} bytes; the limit is {MAX_TEMPLATE_BYTES}"
            return [Reason(field=TEMPLATE_FILE, problem=problem, remedy=_REMEDY)]
        try:
            fault = await self._renderer.fault_of(data.decode())
        except UnicodeDecodeError as error:
            fault = f"byte {error.start} is not UTF-8"
        problem = f"cannot be used ({fault})"
        return [] if fault is None else [Reason(field=TEMPLATE_FILE, problem=problem, remedy=_REMEDY)]

    def close(self) -> None:
        """Fetch nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _fetched(self, version: AdapterVersion) -> str:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                data = await loop.run_in_executor(self._threads, self._read, version, TEMPLATE_FILE)
        except TimeoutError:
            problem = (
                f"the chat template of {version.adapter}@{version.number} did not come within {_FETCH_SECONDS:g} s"
            )
            raise StoreUnavailable(f"{problem}: try again") from None
        return data.decode()


def _own(version: AdapterVersion | None) -> str | None:
    files = () if version is None else version.files
    return next((file.sha256 for file in files if file.name == TEMPLATE_FILE), None)
