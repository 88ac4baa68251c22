"""Where the tour asks. Programs travel with each question, so that nothing is left on the server; only those that
batch calibration needs, which the server counts by version, are registered and deleted.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from graft.client import Client, GraftClientError, NotFound, PromptRun
from graft.training.evaluation.asking.side_by_side import NUM_STREAMS, each
from graft.training.tour.chapter import Example
from graft.training.tour.figure import Marks
from graft.training.tour.progress import tell
from graft.v1.prompt_pb2 import PreviewPromptResponse

Program = Mapping[str, Any]
DELETING_SECONDS = 20.0
"""Of pauses, while the server is full."""
NO_ANSWER = frozenset({"NO_ANSWER", "UNSUPPORTED_CLAIMS"})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a program is asked, and the answer that counts as right."""

    program: Program
    variables: Mapping[str, str]
    right: str
    documents: tuple[Mapping[str, str], ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)


class Classroom:
    """Asks a running server; a context manager, which deletes what it registered.

    ``num_questions`` is how many a setting gets, over ``num_runs`` runs together.
    """

    num_runs = 5

    def __init__(self, client: Client, *, num_questions: int, seed: int) -> None:
        self.num_questions, self.seed = num_questions, seed
        self._client = client
        self._folder = f"tour-{secrets.token_hex(4)}"
        self._names: dict[str, str] = {}
        self._num_named = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.tidy()

    def tidy(self) -> None:
        """Delete what was registered; says so where the server does not do it."""
        names, self._names = list(self._names.values()), {}
        try:
            each(self._delete, names, max_wait_seconds=DELETING_SECONDS)
        except GraftClientError as error:
            tell(f"The tour's programs, {self._folder}/…, were not deleted: {error}")

    @property
    def per_run(self) -> int:
        """Questions of one run."""
        return -(-self.num_questions // self.num_runs)

    def runs(
        self, questions: Sequence[Question], *, about: str = "", num_streams: int = NUM_STREAMS
    ) -> list[PromptRun | None]:
        """What the server answers; None where it says that there is no answer. Raises GraftClientError for the rest."""
        self._register([one.program for one in questions if _is_counted(one.program)])
        return each(self._run, questions, about=about or None, num_streams=num_streams)

    def marks(self, runs: Sequence[Sequence[Question]], *, about: str = "", num_streams: int = NUM_STREAMS) -> Marks:
        """Of each run, which questions were answered rightly."""
        every = [one for run in runs for one in run]
        answers = iter(self.runs(every, about=about, num_streams=num_streams))
        return [[_said(next(answers)) == one.right for one in run] for run in runs]

    def example(self, question: Question) -> Example:
        """A question as the base reads it, and its answer."""
        (ran,) = self.runs([question])
        (shown,) = each(self._preview, [question])
        prompt = "".join(part.text for part in shown.parts)
        return Example(prompt=prompt, said=_said(ran) or "(no answer)", right=question.right)

    def _register(self, programs: Sequence[Program]) -> None:
        new = {key: one for one in programs if (key := _key(one)) not in self._names}
        names = {key: f"{self._folder}/{self._num_named + index}" for index, key in enumerate(new)}
        self._num_named += len(names)
        self._names |= names
        each(lambda key: self._client.push_prompt(names[key], new[key], labels=["production"]), list(new))

    def _delete(self, name: str) -> None:
        """One that was never registered, since the tour broke off, is deleted already."""
        with contextlib.suppress(NotFound):
            self._client.delete_prompt(name, force=True)

    def _preview(self, question: Question) -> PreviewPromptResponse:
        return self._client.preview_prompt(
            variables=question.variables, program=question.program, documents=question.documents
        )

    def _run(self, question: Question) -> PromptRun | None:
        name = self._names.get(_key(question.program), "")
        try:
            return self._client.run_prompt(
                name,
                question.variables,
                program=None if name else question.program,
                documents=question.documents,
                **question.sampling,
            )
        except GraftClientError as error:
            if error.reason in NO_ANSWER:
                return None
            raise


def _said(run: PromptRun | None) -> str | None:
    return None if run is None else run.answer


def _is_counted(program: Program) -> bool:
    """Batch calibration keeps its statistics by registered version."""
    return bool(program.get("scoring", {}).get("calibration") == "batch")


def _key(program: Program) -> str:
    return json.dumps(program, sort_keys=True)
