"""Which adapter versions sit in the engine's slots: a pure policy, with no I/O and no clock.

A version is *loading*, *resident* or *draining*; elsewhere it is absent. Requests hold leases; a slot is freed only
when no lease and no pin is on it. One slot at least always stays unpinned, or a request for any other version would
wait for ever.

Versions wait in line for slots: those that somebody holds a lease on first, first come, first served; then those that
`want` names, in its order; then hints. A free slot goes to the first in line. Else the version leaves that nobody uses
or wants and whose priority is smallest by GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance
with Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69R1, 1998): recency, and uses times the cost of loading again;
slots are all of one size. Where all are used or wanted, one that must yield is *closed*: no new request starts on it,
so its leases run out and its slot is handed over.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

# More uses than these do not keep a version longer: what was asked for a lot, long ago, must not stay for ever.
_MAX_USES = 8


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
    """Free the slot of `digest`. `evicted` says that another version needs it; `handed_over`, that it was closed."""

    digest: str
    engine_id: int
    evicted: bool
    handed_over: bool = False


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
    closed: bool = False
    cost: float = 1.0
    num_uses: int = 0
    priority: float = 0.0


def _nobody_yields(held: str, wanted: str) -> bool:
    return False


@dataclass(kw_only=True)
class Residency:
    """Decides; whoever asks carries the actions out and reports back with `loaded`, `load_failed`, `unloaded`.

    A lease is taken when a request comes and counts from then on, so a version is never evicted between its loading
    and its use. Entries stand in order of use, the least recently used first.
    """

    num_slots: int
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _waiting: OrderedDict[str, int] = field(default_factory=OrderedDict)  # digest -> leases
    _wanted: dict[str, None] = field(default_factory=dict)
    _hints: OrderedDict[str, None] = field(default_factory=OrderedDict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Never gives an id twice; one for all that load into one engine."""
    # The priority of the last that was evicted: what is used later stands above it.
    _age: float = 0.0

    def __post_init__(self) -> None:
        if self.num_slots < 0:
            raise ValueError(f"num_slots is {self.num_slots}; an engine has 0 or more")

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> tuple[Action, ...]:
        """Requests wait for these versions, the most urgent first. They are loaded ahead of use.

        `yields(held, wanted)` says whether a version in use must hand its slot over to a wanted one.
        """
        self._wanted = dict.fromkeys(digests)
        return self._advance(yields)

    def hint(self, digest: str) -> tuple[Action, ...]:
        """A version may be asked for soon: it comes where none in use has to leave. The latest hints count."""
        entry = self._entries.get(digest)
        if entry is not None and entry.state is not State.DRAINING:
            return ()
        self._hints[digest] = None
        self._hints.move_to_end(digest)
        if len(self._hints) > self.num_slots:
            self._hints.popitem(last=False)
        return self._advance()

    def usable(self, digest: str) -> bool:
        """Whether `take` may be called: the version is ready, and not closed."""
        entry = self._entries.get(digest)
        return entry is not None and entry.state is State.RESIDENT and not entry.closed

    def take(self, digest: str) -> None:
        """Take a lease on a version that is `usable`."""
        if not self.usable(digest):
            raise ValueError(f"{digest} is not ready to be used")
        self._use(digest)

    def lease(self, digest: str) -> tuple[Action, ...]:
        """Take a lease on any version, before all who merely want one. It may be used once `engine_id` answers."""
        entry = self._entries.get(digest)
        if entry is not None and entry.state is not State.DRAINING:
            self._use(digest)
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

    def loaded(self, digest: str, *, cost: float = 1.0) -> tuple[Action, ...]:
        """A `Load` succeeded. `cost` is what loading it again would cost, in any unit."""
        entry = self._entries[digest]
        entry.state, entry.cost = State.RESIDENT, cost
        self._weigh(entry)
        return self._advance()

    def load_failed(self, digest: str) -> tuple[Action, ...]:
        """A `Load` failed: its slot is free again, and all leases on it are void. Nobody wants it any more."""
        del self._entries[digest]
        self._wanted.pop(digest, None)
        return self._advance()

    def unloaded(self, digest: str) -> tuple[Action, ...]:
        """An `Unload` was carried out."""
        del self._entries[digest]
        return self._advance()

    def retire(self, digest: str) -> tuple[Action, ...]:
        """Let a version go: it leaves when its last lease ends. Pins on it are lifted."""
        if (entry := self._entries.get(digest)) is not None:
            entry.retired, entry.pinned = True, False
        self._hints.pop(digest, None)
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
        entry.pinned, entry.retired, entry.closed = True, False, False

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

    def _advance(self, yields: Callable[[str, str], bool] = _nobody_yields) -> tuple[Action, ...]:
        """Unload the retired, load those in line into free slots in their order, free a slot for each left over."""
        actions: list[Action] = [
            self._unload(digest, evicted=False)
            for digest, entry in self._entries.items()
            if entry.retired and self._idle(digest) and digest not in self._wanted
        ]
        for digest in self._line():
            if len(self._entries) >= self.num_slots:
                break
            if digest not in self._entries:  # else it drains under its old id, and comes back once it has left
                actions.append(self._load(digest))
        leaving = sum(entry.state is State.DRAINING for entry in self._entries.values())
        short = self._line()[leaving:]
        while short and (victim := self._victim()) is not None:
            self._age = max(self._age, self._entries[victim].priority)
            actions.append(self._unload(victim, evicted=True))
            short.pop(0)
        self._close([digest for digest in short if digest in self._waiting or digest in self._wanted], yields)
        closed = [digest for digest, entry in self._entries.items() if entry.closed and self._idle(digest)]
        return (*actions, *(self._unload(digest, evicted=True) for digest in closed))

    def _line(self) -> list[str]:
        """Those without a slot, in their order; one that drains under its old id stands in line again."""
        line = dict.fromkeys((*self._waiting, *self._wanted, *self._hints))
        return [each for each in line if each not in self._entries or self._entries[each].state is State.DRAINING]

    def _idle(self, digest: str) -> bool:
        entry = self._entries[digest]
        return entry.state is State.RESIDENT and not entry.num_leases and not entry.pinned

    def _victim(self) -> str | None:
        idle = [digest for digest in self._entries if self._idle(digest) and digest not in self._wanted]
        return min(idle, key=lambda digest: self._entries[digest].priority, default=None)

    def _close(self, short: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        """Close one version for each in `short`, as far as they must yield; open those that need not be closed."""
        closed = [entry for entry in self._entries.values() if entry.closed and entry.state is State.RESIDENT]
        for entry in closed[len(short) :]:
            entry.closed = False
        for wanted in short[len(closed) :]:
            if (held := self._yielding(wanted, yields)) is None:
                return
            self._entries[held].closed = True

    def _yielding(self, wanted: str, yields: Callable[[str, str], bool]) -> str | None:
        """Of those that must yield, the one that will be free soonest."""
        held = [
            digest
            for digest, entry in self._entries.items()
            if entry.state is State.RESIDENT and not entry.closed and not entry.pinned
            if wanted in self._waiting or yields(digest, wanted)
        ]
        return min(held, key=lambda digest: self._entries[digest].num_leases, default=None)

    def _use(self, digest: str) -> None:
        entry = self._entries[digest]
        entry.num_leases += 1
        entry.num_uses += 1
        self._weigh(entry)
        self._entries.move_to_end(digest)

    def _weigh(self, entry: _Entry) -> None:
        entry.priority = self._age + entry.cost * min(entry.num_uses, _MAX_USES)

    def _load(self, digest: str) -> Load:
        engine_id = next(self.ids)
        num_leases = self._waiting.pop(digest, 0)
        self._hints.pop(digest, None)
        self._entries[digest] = _Entry(
            engine_id=engine_id, state=State.LOADING, num_leases=num_leases, num_uses=num_leases
        )
        return Load(digest=digest, engine_id=engine_id)

    def _unload(self, digest: str, *, evicted: bool) -> Unload:
        entry = self._entries[digest]
        entry.state = State.DRAINING
        return Unload(digest=digest, engine_id=entry.engine_id, evicted=evicted, handed_over=entry.closed)
