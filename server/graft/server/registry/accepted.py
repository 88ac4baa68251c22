"""What comes in, as its sender says it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from graft.adapters.adapter import AdapterVersion
from graft.server.registry.intents import Intent


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What the sender said is meant: an adapter that changes nothing; another form than it was trained on."""

    noop: bool
    other_form: bool


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An accepted version; whether it, and its adapter, were not there before; what its sender may not expect."""

    version: AdapterVersion
    is_new: bool
    is_new_adapter: bool
    notices: tuple[str, ...] = ()

    @property
    def intent(self) -> Intent:
        """To be an alias's version."""
        one = self.version
        return Intent(tenant=one.tenant, adapter=one.adapter, digest=one.digest, is_new_adapter=self.is_new_adapter)


TakeBack = Callable[[Accepted], Awaitable[object]]
"""Of a version that was to become an alias's, for a caller who went away while it was registered."""


@dataclass(frozen=True, kw_only=True)
class DeclaredFile:
    """A file as its sender announces it; `sha256` is 64 hex digits."""

    name: str
    size_bytes: int
    sha256: str


async def taken_back(accepting: asyncio.Task[Accepted], take_back: TakeBack | None) -> None:
    """When it is accepted, if it is."""
    await asyncio.wait([accepting])
    if take_back is not None and not accepting.cancelled() and accepting.exception() is None:
        await take_back(accepting.result())
