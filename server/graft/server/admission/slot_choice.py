"""What admission asks of the slots, so that it can be tried without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class SlotChoice(Protocol):
    """What admission asks of the slots: a request runs only where its version is ready."""

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        """Versions that requests wait for, the most urgent first; `yields(held, wanted)` says whether to hand over."""
        ...

    def usable(self, digest: str) -> bool:
        """Whether a request may start on the version now."""
        ...

    def take(self, digest: str) -> None:
        """A request starts on the version: lease it."""
        ...


class AllUsable:
    """Slots without any limit."""

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        pass

    def usable(self, digest: str) -> bool:
        return True

    def take(self, digest: str) -> None:
        pass
