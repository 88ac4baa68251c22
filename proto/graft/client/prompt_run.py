"""Prompt programs as they run: what is asked, chunks as they come, and the whole answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from graft.client import request
from graft.client.errors import IncompleteStream
from graft.client.operation import Operation, unary
from graft.client.prompt_operation import Program
from graft.v1 import common_pb2, inference_pb2
from graft.v1 import prompt_pb2 as pb

Documents = Sequence[str] | Sequence[Mapping[str, str]] | Mapping[str, str]
"""Texts, texts by id, or objects with `id`, `text` and perhaps `title`."""


@dataclass(frozen=True, kw_only=True)
class PromptChunk:
    """What answer and rationale grew by."""

    answer: str
    rationale: str


@dataclass(frozen=True, kw_only=True)
class PromptRun:
    """A whole answer, which program gave it and which model, and what it used."""

    answerer: common_pb2.Answerer
    program: pb.ProgramAnswerer
    result: pb.PromptAnswer
    usage: inference_pb2.Usage
    shown_demonstrations: tuple[int, ...]
    dropped_demonstrations: tuple[int, ...]
    seconds: float

    @property
    def answer(self) -> str:
        """What was asked for."""
        return self.result.answer

    @property
    def rationale(self) -> str:
        """What led to it; empty where it is withheld or there is none."""
        return self.result.rationale


class RunOptions(request.SamplingOptions, total=False):
    """How a program is run, beside its variables; `timeout` is in seconds."""

    program: Program | None
    documents: Documents
    model: str
    withhold_rationale: bool
    timeout: float | None


def run(prompt: str, variables: Mapping[str, object], options: RunOptions) -> pb.RunPromptRequest:
    """A request to run a registered program, or one that comes with it. Raises TypeError for an unknown option."""
    own = RunOptions.__annotations__.keys() - request.SamplingOptions.__annotations__.keys()
    sampling = {name: value for name, value in options.items() if name not in own}
    return pb.RunPromptRequest(
        prompt=prompt,
        program=_program(options.get("program")),
        variables=json.dumps(dict(variables), ensure_ascii=False) if variables else "",
        documents=source_documents(options.get("documents", ())),
        model=options.get("model", ""),
        sampling=request.sampling(cast(request.SamplingOptions, sampling)),
        withhold_rationale=options.get("withhold_rationale", False),
    )


def preview(
    prompt: str, variables: Mapping[str, object], *, program: Program | None, documents: Documents
) -> Operation[pb.PreviewPromptResponse]:
    """What the model would read."""
    message = pb.PreviewPromptRequest(
        prompt=prompt,
        program=_program(program),
        variables=json.dumps(dict(variables), ensure_ascii=False) if variables else "",
        documents=source_documents(documents),
    )
    return unary("PromptService", message, pb.PreviewPromptResponse, lambda response: response)


def _program(program: Program | None) -> str:
    if program is None or isinstance(program, str):
        return program or ""
    return json.dumps(program, ensure_ascii=False)


def source_documents(documents: Documents) -> list[pb.SourceDocument]:
    """Documents as messages; texts without an id are numbered from 1."""
    if isinstance(documents, str):
        raise TypeError("documents are a list of texts: put the text into a list")
    if isinstance(documents, Mapping):
        return [pb.SourceDocument(id=name, text=text) for name, text in documents.items()]
    found = []
    for number, one in enumerate(documents, start=1):
        given = dict(one) if isinstance(one, Mapping) else {"text": str(one)}
        found.append(pb.SourceDocument(**{"id": str(number), **given}))
    return found


class RunReader:
    """Keeps what a stream's messages say, and gives the whole at its end."""

    def __init__(self) -> None:
        self._first: pb.RunPromptResponse | None = None
        self._last: pb.RunPromptResponse | None = None

    def read(self, response: pb.RunPromptResponse) -> PromptChunk | None:
        """What grew; None where the message carries nothing of the texts."""
        if response.HasField("answerer"):
            self._first = response
        if response.HasField("result"):
            self._last = response
        if not (response.answer_text or response.rationale_text):
            return None
        return PromptChunk(answer=response.answer_text, rationale=response.rationale_text)

    def whole(self) -> PromptRun:
        """Raises `IncompleteStream` where the stream ended before the result."""
        if self._first is None or self._last is None:
            raise IncompleteStream("the stream ended before the result")
        first, last = self._first, self._last
        return PromptRun(
            answerer=first.answerer,
            program=first.program,
            result=last.result,
            usage=last.usage,
            shown_demonstrations=tuple(first.shown_demonstrations),
            dropped_demonstrations=tuple(first.dropped_demonstrations),
            seconds=last.time.seconds + last.time.nanos / 1e9,
        )


def whole(events: Iterable[PromptChunk | PromptRun]) -> PromptRun:
    """The run that a stream ends in."""
    for event in events:
        if isinstance(event, PromptRun):
            return event
    raise IncompleteStream("the stream ended before the result")
