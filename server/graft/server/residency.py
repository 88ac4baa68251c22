"""Which adapter versions sit in the engine's slots: a pure policy, with no I/O and no clock.

A version is *loading*, *resident* or *draining*; elsewhere it is absent. Requests hold leases; a slot is freed only
when no lease and no pin is on it. Waiting is first come, first served, so no version starves another. One slot at
least always stays unpinned, or a request for any other version would wait for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a version stands between absent and resident."""

    LOADING = "loading"
    RESIDENT = "resident"
    DRAINING = "draining"


class PinRefused(ValueError):
    """One slot must stay free of pins."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Bring `digest` into a slot under `engine_id`, which was never used before."""

    digest: str
    engine_id: int


@dataclass(frozen=True, kw_only=True)
class Unload:
    """Free the slot of `digest`. `evicted` says that another version needs it."""

    digest: str
    engine_id: int
    evicted: bool


Action = Load | Unload


@dataclass(frozen=True, kw_only=True)
class Resident:
    """One version in a slot, as seen from outside."""

    digest: str
    engine_id: int
    state: State
    num_leases: int
    pinned: bool


@dataclass(kw_only=True)
class _Entry:
    engine_id: int
    state: State
    num_leases: int
    pinned: bool = False
    retired: bool = False


@dataclass(kw_only=True)
class Residency:
    """Decides; whoever asks carries the actions out and reports back with `loaded`, `load_failed`, `unloaded`.

    A lease is taken when a request comes and counts from then on, so a version is never evicted between its loading
    and its use. Entries stand in order of use, the least recently used first.
    """

    num_slots: int
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _waiting: OrderedDict[str, int] = field(default_factory=OrderedDict)  # digest -> leases
    _next_id: int = 1

    def __post_init__(self) -> None:
        if self.num_slots < 1:
            raise ValueError(f"num_slots is {self.num_slots}; an engine needs at least 1")

    def lease(self, digest: str) -> tuple[Action, ...]:
        """Take a lease. The version may be used once `engine_id` answers."""
        entry = self._entries.get(digest)
        if entry is not None and entry.state is not State.DRAINING:
            entry.num_leases += 1
            self._entries.move_to_end(digest)
            return ()
        self._waiting[digest] = self._waiting.get(digest, 0) + 1
        return self._advance()

    def engine_id(self, digest: str) -> int | None:
        """The version's id while it is resident, else None."""
        entry = self._entries.get(digest)
        return entry.engine_id if entry and entry.state is State.RESIDENT else None

    def release(self, digest: str) -> tuple[Action, ...]:
        """Give a lease back, whether or not the version was ready by then."""
        if digest in self._waiting:
            self._waiting[digest] -= 1
            if not self._waiting[digest]:
                del self._waiting[digest]
            return ()
        entry = self._entries[digest]
        if entry.num_leases < 1:
            raise ValueError(f"{digest} has no lease to give back")
        entry.num_leases -= 1
        return self._advance()

    def loaded(self, digest: str) -> tuple[Action, ...]:
        """A `Load` succeeded."""
        self._entries[digest].state = State.RESIDENT
        return self._advance()

    def load_failed(self, digest: str) -> tuple[Action, ...]:
        """A `Load` failed: its slot is free again, and all leases on it are void."""
        del self._entries[digest]
        return self._advance()

    def unloaded(self, digest: str) -> tuple[Action, ...]:
        """An `Unload` was carried out."""
        del self._entries[digest]
        return self._advance()

    def retire(self, digest: str) -> tuple[Action, ...]:
        """Let a version go: it leaves when its last lease ends. Pins on it are lifted."""
        if (entry := self._entries.get(digest)) is not None:
            entry.retired, entry.pinned = True, False
        return self._advance()

    def pin(self, digest: str) -> None:
        """Keep a version in its slot, a retired one too. Raises `PinRefused` where no slot is left, `KeyError`."""
        entry = self._entries[digest]
        others = sum(each.pinned for name, each in self._entries.items() if name != digest)
        if others + 1 > self.num_slots - 1:
            raise PinRefused(
                f"{others} of {self.num_slots} slots are pinned and one must stay free: unpin a version, or start the "
                "server with more slots"
            )
        entry.pinned, entry.retired = True, False

    def unpin(self, digest: str) -> tuple[Action, ...]:
        """Lift a pin; an absent version has none."""
        if (entry := self._entries.get(digest)) is not None:
            entry.pinned = False
        return self._advance()

    def view(self) -> tuple[Resident, ...]:
        """What sits in the slots, the least recently used first."""
        return tuple(
            Resident(
                digest=digest,
                engine_id=entry.engine_id,
                state=entry.state,
                num_leases=entry.num_leases,
                pinned=entry.pinned,
            )
            for digest, entry in self._entries.items()
        )

    def _advance(self) -> tuple[Action, ...]:
        """Unload the retired, load those who wait into free slots in their order, free a slot for each left over."""
        actions: list[Action] = [
            self._unload(digest, evicted=False)
            for digest, entry in self._entries.items()
            if entry.retired and entry.state is State.RESIDENT and not entry.num_leases
        ]
        for digest in list(self._waiting):
            if len(self._entries) >= self.num_slots:
                break
            if digest not in self._entries:  # else it drains under its old id, and comes back once it has left
                actions.append(self._load(digest))
        leaving = sum(entry.state is State.DRAINING for entry in self._entries.values())
        for _ in range(len(self._waiting) - leaving):
            victim = self._victim()
            if victim is None:
                break
            actions.append(self._unload(victim, evicted=True))
        return tuple(actions)

    def _victim(self) -> str | None:
        for digest, entry in self._entries.items():
            if entry.state is State.RESIDENT and not entry.num_leases and not entry.pinned:
                return digest
        return None

    def _load(self, digest: str) -> Load:
        engine_id, self._next_id = self._next_id, self._next_id + 1
        num_leases = self._waiting.pop(digest)
        self._entries[digest] = _Entry(engine_id=engine_id, state=State.LOADING, num_leases=num_leases)
        return Load(digest=digest, engine_id=engine_id)

    def _unload(self, digest: str, *, evicted: bool) -> Unload:
        entry = self._entries[digest]
        entry.state = State.DRAINING
        return Unload(digest=digest, engine_id=entry.engine_id, evicted=evicted)
