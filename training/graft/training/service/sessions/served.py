"""The running server that versions are published to and that samples: a caller is who that server says it is."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from graft.client import (
    Client,
    Conflict,
    DeadlineExceeded,
    GraftClientError,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from graft.client.generation import Generation
from graft.training.service.refusal import Kind, Refusal

PATIENCE_SECONDS = 180.0
"""With a server that is about to answer again."""
_MOST_CALLERS = 256
_FULL = "QUOTA_EXCEEDED"
_TRUSTED_SECONDS = 60.0
"""After which a token is asked about anew."""
_AGAIN_SECONDS = 5.0
"""The same, where the server did not answer."""

Reply = TypeVar("Reply")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose token this is."""

    token: str | None

    @property
    def owner(self) -> str:
        """Under which what is theirs lies; no token can be read from it."""
        return hashlib.sha256((self.token or "").encode()).hexdigest()[:32]


class Served:
    """Its clients are made as callers come."""

    def __init__(self, target: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.target, self._clock = target, clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str | None, Client] = OrderedDict()
        self._known: dict[str | None, float] = {}
        self._over = threading.Event()

    def caller(self, token: str | None) -> Caller:
        """Who brings a token. One that the server knew before is known as long as the server does not answer.

        Raises ``Refusal`` where the server does not know it.
        """
        if self._clock() > self._known.get(token, float("-inf")) + _TRUSTED_SECONDS:
            try:
                with refusing():
                    self._client(token).info(timeout=10.0)
            except Refusal as refusal:
                if refusal.kind is not Kind.UNAVAILABLE or token not in self._known:
                    with self._lock:
                        self._known.pop(token, None)
                    raise
                with self._lock:  # nor does every call wait for it
                    self._known[token] = self._clock() - _TRUSTED_SECONDS + _AGAIN_SECONDS
            else:
                with self._lock:
                    self._known = {one: at for one, at in self._known.items() if one in self._clients}
                    self._known[token] = self._clock()
        return Caller(token=token)

    def publish(self, caller: Caller, folder: Path, *, adapter: str, alias: str | None, is_noop: bool) -> str:
        """The digest of a new version, which answers as soon as it is asked. Raises ``Refusal``."""
        with refusing():
            pushed = self._patiently(
                caller, lambda client: client.push_adapter(folder, name=adapter, alias=alias, allow_noop=is_noop)
            )
        digest: str = pushed.version.digest
        return digest

    def forget(self, caller: Caller, *, adapter: str, digests: Sequence[str]) -> None:
        """Versions that nobody samples from any more; one that has a name by now stays. Raises ``Refusal``."""
        with refusing():
            for digest in digests:
                with contextlib.suppress(Conflict, NotFound):
                    self._client(caller.token).delete_version(adapter, digest)

    def generate(self, caller: Caller, ids: Sequence[int], *, model: str, **options: Any) -> Generation:
        """An answer, or several. Raises ``Refusal``."""
        with refusing():
            return self._patiently(caller, lambda client: client.generate(list(ids), model=model, **options))

    def prompt_logprobs(self, caller: Caller, ids: Sequence[int], *, model: str) -> list[float]:
        """Nats of every token but the first. Raises ``Refusal``."""
        with refusing():
            found = self._patiently(caller, lambda client: client.score(list(ids[:1]), [list(ids[1:])], model=model))
        return [one.logprob for one in found.scores[0].tokens]

    def _patiently(self, caller: Caller, ask: Callable[[Client], Reply]) -> Reply:
        """A number is used up where its request fails: a server that replaces its engine, or is full, is waited for."""
        end, pause = self._clock() + PATIENCE_SECONDS, 0.1
        while True:
            try:
                return ask(self._client(caller.token))
            except (Unavailable, ResourceExhausted) as error:
                if error.reason == _FULL:  # a quota is full for hours
                    raise
                if self._clock() + pause > end or self._over.wait(pause):
                    raise
                pause = min(2 * pause, 5.0)

    def hurry(self) -> None:
        """Nothing is waited for any more."""
        self._over.set()

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, token: str | None) -> Client:
        with self._lock:
            client = self._clients.pop(token, None)
            if client is None:
                try:
                    client = Client(self.target, token=token)
                except ValueError as error:
                    raise Refusal(Kind.UNKNOWN_CALLER, f"the key is no token: {error}.") from None
            self._clients[token] = client
            while len(self._clients) > _MOST_CALLERS:
                self._clients.popitem(last=False)
            return client


_KINDS: Sequence[tuple[type[GraftClientError], Kind]] = (
    (Unauthenticated, Kind.UNKNOWN_CALLER),
    (NotFound, Kind.NOT_FOUND),
    (ResourceExhausted, Kind.FULL),
    (Unavailable, Kind.UNAVAILABLE),
    (DeadlineExceeded, Kind.UNAVAILABLE),
)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What the server says is what its caller hears."""
    try:
        yield
    except GraftClientError as error:
        kind = next((kind for one, kind in _KINDS if isinstance(error, one)), Kind.INVALID)
        raise Refusal(kind, f"the server that samples: {error}") from None
