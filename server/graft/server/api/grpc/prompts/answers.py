"""What programs answer, as messages."""

from __future__ import annotations

from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.rendering.preview import Preview
from graft.server.prompting.running.running import Answer
from graft.server.prompting.sources.citations import Citation
from graft.v1 import common_pb2
from graft.v1 import prompt_pb2 as pb


def program_answerer(version: PromptVersion | None) -> pb.ProgramAnswerer:
    """Which program answers; empty where it came with the request."""
    if version is None:
        return pb.ProgramAnswerer()
    return pb.ProgramAnswerer(prompt=version.prompt, version_number=version.number, version_digest=version.digest)


def answer_message(answer: Answer) -> pb.PromptAnswer:
    reasoned, choice, checked = answer.reasoned, answer.choice, answer.checked
    finish = common_pb2.FINISH_REASON_STOP if reasoned.finished else common_pb2.FINISH_REASON_LENGTH
    return pb.PromptAnswer(
        answer=reasoned.answer,
        rationale=reasoned.rationale,
        votes=[pb.Vote(answer=one.answer, num_paths=one.num_paths, weight=one.weight) for one in reasoned.votes],
        choices=[
            pb.ChoiceProbability(choice=one.text, probability=one.probability, logprob=one.logprob)
            for one in (choice.choices if choice is not None else ())
        ],
        citations=[_citation(one) for one in (checked.citations if checked is not None else ())],
        unsupported_sentences=[one.sentence for one in (checked.unsupported if checked is not None else ())],
        finish_reason=finish,
        notices=answer.notices,
        answer_tokens=reasoned.cost.answer_tokens,
        reasoning_tokens=reasoned.cost.reasoning_tokens,
    )


def _citation(citation: Citation) -> pb.Citation:
    return pb.Citation(
        marker=citation.marker,
        document=citation.document or "",
        passage=citation.passage or "",
        exists=citation.exists,
        overlap=citation.overlap,
        sentence=citation.sentence,
        missing_quotes=citation.missing_quotes,
    )


def preview_message(preview: Preview, max_model_tokens: int) -> pb.PreviewPromptResponse:
    return pb.PreviewPromptResponse(
        parts=[pb.PromptPart(kind=one.kind, text=one.text, num_tokens=one.num_tokens) for one in preview.parts],
        num_tokens=preview.num_tokens,
        max_model_tokens=max_model_tokens,
        shown_demonstrations=preview.shown,
        dropped_demonstrations=preview.dropped,
        notices=preview.notices,
        variables=preview.variables,
    )
