"""The shipped base of a running server, asked over gRPC as programs ask it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from graft.client import AsyncClient
from graft.server.engine.engine import ContinuationScore, TokenLogprob
from graft.server.prompting.asking import Path, Piece, Written
from graft.server.prompting.program.program import Decoding, Output
from tests.server.prompting.scripted import whole


class ServedBase:
    """Texts only, and no contracts."""

    max_model_tokens = 1024

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def ask(
        self,
        prompt: Written,
        decoding: Decoding,
        *,
        num_paths: int = 1,
        output: Output | None = None,
        with_logprob: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        assert output is None and prompt.text is not None
        options = {name: value for name, value in decoding if value is not None}
        logprobs = 0 if with_logprob else None
        texts, logprob = [""] * num_paths, [0.0] * num_paths
        num_tokens = [0] * num_paths
        chunks = self._client.stream(whole(prompt), num_choices=num_paths, logprobs=logprobs, **options)
        async with aclosing(chunks):
            async for chunk in chunks:
                index = chunk.choice
                texts[index] += chunk.text
                num_tokens[index] += len(chunk.token_ids)
                logprob[index] += sum(token.logprob for token in chunk.logprobs)
                path = None
                if chunk.finish_reason:
                    path = Path(
                        text=texts[index],
                        num_tokens=num_tokens[index],
                        logprob=logprob[index],
                        finished=chunk.finish_reason == "stop",
                    )
                yield Piece(index=index, text=chunk.text, num_tokens=len(chunk.token_ids), path=path)

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        scores = (await self._client.score(whole(prompt), list(continuations))).scores
        return [
            ContinuationScore(
                tokens=tuple(
                    TokenLogprob(token_id=token.token_id, token=token.token, logprob=token.logprob)
                    for token in score.tokens
                ),
                is_greedy=score.is_greedy,
            )
            for score in scores
        ]

    async def num_tokens(self, prompt: Written) -> int:
        return len((await self._client.tokenize(whole(prompt))).token_ids)
