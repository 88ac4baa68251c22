"""A case over the command line: what is typed, how it ends, what is said, what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cases.harness.forkserver import ForkServer, Outcome
from tests.cases.harness.words import faults_of

_MAX_LINES = 20


@dataclass(frozen=True, kw_only=True)
class CommandCase:
    """`graft ARGV…` in a folder of its own.

    `{folder}` in arguments is that folder, which `prepare` fills and `then` looks at afterwards. A user's mistake
    (`code` 2) is told in a few lines, whatever the case; a traceback is a fault in every case.
    """

    id: str
    argv: Sequence[str]
    prepare: Callable[[Path], object] | None = None
    code: int = 2
    says: Sequence[str] = ()
    silent: Sequence[str] = ()
    then: Callable[[Path], object] | None = None
    seconds: float = 60.0
    max_file_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id


class Commands:
    """Runs cases below one test's folder."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._server = server
        self.folder = folder

    def run(
        self, *argv: object, seconds: float = 60.0, max_file_bytes: int | None = None, **environment: str
    ) -> Outcome:
        """`graft ARGV…` in the test's folder."""
        return self._server.run(
            [str(word) for word in argv],
            cwd=self.folder,
            seconds=seconds,
            max_file_bytes=max_file_bytes,
            environment=environment,
        )

    def check(self, case: CommandCase) -> Outcome:
        """Run one case and compare."""
        if case.prepare is not None:
            case.prepare(self.folder)
        argv = [word.replace("{folder}", str(self.folder)) for word in case.argv]
        outcome = self.run(*argv, seconds=case.seconds, max_file_bytes=case.max_file_bytes, **case.environment)
        assert outcome.code == case.code, f"exit code {outcome.code}, not {case.code}:\n{outcome.said[-4000:]}"
        for text in case.says:
            assert text in outcome.said, f"{text!r} is not in what was said:\n{outcome.said[-4000:]}"
        for text in ("Traceback (most recent call last)", *case.silent):
            assert text not in outcome.said, f"{text!r} was said:\n{outcome.said[-4000:]}"
        if case.code == 2:
            assert not faults_of(outcome.err), (faults_of(outcome.err), outcome.err[-4000:])
            assert len(outcome.err.splitlines()) <= _MAX_LINES, f"a mistake told at length:\n{outcome.err[-4000:]}"
        if case.then is not None:
            case.then(self.folder)
        return outcome
