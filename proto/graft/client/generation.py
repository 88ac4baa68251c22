"""What a generation gives back: chunks as they come, and the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graft.client.errors import IncompleteStream
from graft.v1 import common_pb2, inference_pb2

_FINISH_REASONS = {
    common_pb2.FINISH_REASON_STOP: "stop",
    common_pb2.FINISH_REASON_LENGTH: "length",
}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What one choice grew by. `finish_reason` is `stop` or `length` in the choice's last chunk, else None; `id` is the
    whole answer's, by which `report_outcome` knows it.
    """

    id: str
    answerer: common_pb2.Answerer
    choice: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[inference_pb2.TokenLogprob, ...]
    finish_reason: str | None
    usage: inference_pb2.Usage | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One whole continuation."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[inference_pb2.TokenLogprob, ...]
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A whole answer, who gave it, and what it used. `report_outcome` knows it by its `id`."""

    id: str
    answerer: common_pb2.Answerer
    choices: tuple[Choice, ...]
    usage: inference_pb2.Usage

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str:
        """Why the first choice ended: `stop` or `length`."""
        return self.choices[0].finish_reason


class ChunkReader:
    """Turns a stream's messages into chunks, and says in `close` when the stream broke off."""

    def __init__(self, num_choices: int) -> None:
        self._id = ""
        self._answerer: common_pb2.Answerer | None = None
        self._num_choices = num_choices
        self._finished: set[int] = set()

    def read(self, response: inference_pb2.GenerateResponse) -> Chunk | None:
        """The chunk in `response`, or None where it carries nothing of a choice (who answers, or usage alone)."""
        if response.HasField("answerer"):
            self._id, self._answerer = response.id, response.answerer
        if self._answerer is None:
            raise IncompleteStream("the stream does not begin with who answers")
        finish_reason = _FINISH_REASONS.get(response.finish_reason)
        if finish_reason is not None and 0 <= response.choice < self._num_choices:
            self._finished.add(response.choice)
        usage = response.usage if response.HasField("usage") else None
        if not (response.text or response.token_ids or finish_reason or usage):
            return None
        return Chunk(
            id=self._id,
            answerer=self._answerer,
            choice=response.choice,
            text=response.text,
            token_ids=tuple(response.token_ids),
            logprobs=tuple(response.logprobs),
            finish_reason=finish_reason,
            usage=usage,
        )

    def close(self) -> None:
        """Raises `IncompleteStream` unless every choice ended with a finish reason."""
        if len(self._finished) < self._num_choices:
            missing = [str(choice) for choice in range(self._num_choices) if choice not in self._finished]
            raise IncompleteStream(f"the stream ended before choice {', '.join(missing)} did")


def collect(chunks: Iterable[Chunk], num_choices: int) -> Generation:
    """The whole answer of a stream that `ChunkReader.close` found complete."""
    chunks = list(chunks)
    if not chunks:
        raise IncompleteStream("the stream held no answer")
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    choices: list[list[Chunk]] = [[] for _ in range(num_choices)]
    for chunk in chunks:
        if 0 <= chunk.choice < num_choices:
            choices[chunk.choice].append(chunk)
    return Generation(
        id=chunks[0].id,
        answerer=chunks[0].answerer,
        choices=tuple(_choice(own) for own in choices),
        usage=usages[-1] if usages else inference_pb2.Usage(),
    )


def _choice(chunks: list[Chunk]) -> Choice:
    return Choice(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        logprobs=tuple(logprob for chunk in chunks for logprob in chunk.logprobs),
        finish_reason=next((chunk.finish_reason for chunk in chunks if chunk.finish_reason), ""),
    )
