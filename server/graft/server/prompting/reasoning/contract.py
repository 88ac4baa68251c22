"""The last stage of an answer after a rationale: it keeps the output contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from graft.server.prompting.asking import Piece, Written
from graft.server.prompting.patterns import compiled
from graft.server.prompting.program.program import Extraction, Output
from graft.server.prompting.reasoning.extraction import extract, without_full_stop
from graft.server.prompting.reasoning.talk import Talk, continued
from graft.server.prompting.reasoning.task import Ended, Growth

_BY_LINE = frozenset({"whole", "first_line", "after", "last_number", "choice"})
"""Ways of extraction for which an answer behind an instruction ends with its line."""


def constraint(output: Output) -> Output | None:
    """What holds the answer to the contract as it is generated; None where it is free, or chosen by its score."""
    return output if output.type in ("json_schema", "regex") else None


def keeps(output: Output, answer: str) -> bool:
    """Whether a free text is an answer by the contract already. A JSON schema is always asked for by its grammar."""
    if output.type == "choices":
        return answer in (output.choices or ())
    if output.type == "regex":
        return compiled(output.regex or "").is_whole(answer)
    return output.type == "text"


async def answered(
    talk: Talk, prompt: Written, *, rationale: str, left: int | None, of: Ended
) -> AsyncGenerator[Growth | Ended, None]:
    """The answer after all that was said so far, which `of` holds: the prompt's answer has begun with it."""
    answer, answer_tokens, finished = "", 0, True
    if talk.task.output.type == "choices":
        await talk.check_room_to_choose(prompt)
        answer = await chosen(talk, prompt)
        yield Growth(answer=answer)
        said = continued(prompt, answer).begun
    else:
        text = ""
        stage = _said(talk, prompt, left)
        async with aclosing(stage):
            async for piece in stage:
                text += piece.text
                answer_tokens += piece.num_tokens
                if piece.path is not None:
                    answer_tokens, finished = piece.path.num_tokens, piece.path.finished
        answer = _read(talk, text)
        yield Growth(answer=answer)
        said = prompt.begun + text
    yield Ended(
        said=said,
        answer=answer,
        rationale=rationale,
        answer_tokens=answer_tokens,
        logprob=of.logprob,
        num_scored=of.num_scored,
        finished=finished,
    )


async def _said(talk: Talk, prompt: Written, left: int | None) -> AsyncGenerator[Piece, None]:
    """The pieces of the answer, until what is read of it is there."""
    room = talk.asker.max_model_tokens - await talk.asker.num_tokens(prompt)
    limit = room if left is None else min(room, left)
    output = constraint(talk.task.output)
    ends_with_line = output is None and talk.task.extraction.method in _BY_LINE
    text = ""
    pieces = talk.ask(prompt, limit=limit, output=output)
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece.text
            yield piece
            if ends_with_line and "\n" in text.lstrip():
                return


def _read(talk: Talk, text: str) -> str:
    """Kojima et al. 2022 (appendix A.6) take what directly follows the answer's instruction, too."""
    output, extraction = talk.task.output, talk.task.extraction
    if constraint(output) is not None:
        return text.strip()
    if extraction.method not in _BY_LINE:
        return extract(text, extraction).answer
    line = without_full_stop(extract(text, Extraction(method="first_line")).answer)
    if extraction.method == "after":
        said = f"{talk.task.reasoning.answer_instruction} {line}"
        return extract(said, extraction).answer if extraction.marker and extraction.marker in said else line
    return extract(line, extraction, choices=output.choices or ()).answer


async def chosen(talk: Talk, prompt: Written) -> str:
    """One of the choices, by the task's way."""
    assert talk.task.choose is not None, "a task of choices says how one is chosen"
    return await talk.task.choose(prompt)
