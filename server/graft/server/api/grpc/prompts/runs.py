"""Programs previewed and run over gRPC: messages in, `Programs` in between, messages out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import monotonic

from google.protobuf.duration_pb2 import Duration

from graft.server.api.grpc.inference_messages import answerer_message, sampling_of, usage_message
from graft.server.api.grpc.prompts.answers import answer_message, preview_message, program_answerer
from graft.server.api.grpc.types import Context
from graft.server.operations.logs import current_request_id
from graft.server.prompting.program.documents import MAX_ID_CHARACTERS
from graft.server.prompting.program.program import Decoding, Document
from graft.server.prompting.program.references import read_reference
from graft.server.prompting.reasoning.task import Growth
from graft.server.prompting.running.programs import Programs
from graft.server.prompting.running.request import RunRequest, read_variables
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations
from graft.v1 import inference_pb2
from graft.v1 import prompt_pb2 as pb

_NOT_A_CALLERS = ("json_schema", "ignore_eos")


class PromptRuns:
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    async def preview(self, request: pb.PreviewPromptRequest, context: Context) -> pb.PreviewPromptResponse:
        previewed = await self._programs.preview(await self._request(request), tenant=current_tenant())
        return preview_message(previewed, self._programs.context_size)

    async def run(self, request: pb.RunPromptRequest, context: Context) -> AsyncGenerator[pb.RunPromptResponse, None]:
        began, tenant = monotonic(), current_tenant()
        asked = await self._request(request, decoding=_decoding(request.sampling), model=request.model)
        prepared = await self._programs.prepare(asked, tenant=tenant)
        entered = self._programs.enter(
            prepared,
            tenant=tenant,
            request_id=current_request_id(),
            deadline_seconds=context.time_remaining(),
        )
        async with entered as ticket:
            first = pb.RunPromptResponse(
                answerer=answerer_message(ticket.answerer),
                program=program_answerer(asked.version),
                shown_demonstrations=prepared.fitted.shown,
                dropped_demonstrations=prepared.fitted.dropped,
            )
            yield first
            async with aclosing(self._programs.run(prepared, ticket)) as events:
                async for event in events:
                    if isinstance(event, Growth):
                        yield pb.RunPromptResponse(answer_text=event.answer, rationale_text=event.rationale)
                        continue
                    time = Duration()
                    time.FromNanoseconds(int((monotonic() - began) * 1e9))
                    yield pb.RunPromptResponse(result=answer_message(event), usage=usage_message(ticket), time=time)

    async def _request(
        self,
        request: pb.PreviewPromptRequest | pb.RunPromptRequest,
        *,
        decoding: Decoding | None = None,
        model: str = "",
    ) -> RunRequest:
        violations = Violations()
        if bool(request.prompt) == bool(request.program):
            problem = "stands beside program" if request.prompt else "is empty"
            violations.add("prompt", f"{problem}: name a registered program, or send one, not both")
        violations.raise_any()
        version = None
        if request.prompt:
            version = self._programs.resolve(read_reference(request.prompt), tenant=current_tenant())
            program = version.program
        else:
            program = await self._programs.read(request.program)
        return RunRequest(
            program=program,
            version=version,
            variables=await read_variables(request.variables),
            documents=_documents(request.documents),
            model=model or None,
            decoding=decoding or Decoding(),
            withhold=isinstance(request, pb.RunPromptRequest) and request.withhold_rationale,
        )


def _documents(given: Sequence[pb.SourceDocument]) -> tuple[Document, ...]:
    violations = Violations()
    for index, one in violations.until_full(enumerate(given)):
        if not 1 <= len(one.id) <= MAX_ID_CHARACTERS:
            problem = f"has {len(one.id)} characters; allowed are 1 to {MAX_ID_CHARACTERS}"
            violations.add(f"documents[{index}].id", problem)
    violations.raise_any()
    return tuple(Document(id=one.id, text=one.text, title=one.title or None) for one in given)


def _decoding(given: inference_pb2.Sampling) -> Decoding:
    """What the caller says of decoding; what it does not say is the program's."""
    violations = Violations()
    sampling = sampling_of(inference_pb2.GenerateRequest(sampling=given), violations)
    for name in _NOT_A_CALLERS:
        if getattr(given, name):
            violations.add(f"sampling.{name}", "is the program's to say, in its output: leave it out")
    violations.raise_any()
    said = {
        name: getattr(sampling, name)
        for name in Decoding.model_fields
        if name != "stop" and given.HasField(name)  # type: ignore[arg-type]
    }
    return Decoding(**said, stop=tuple(given.stop) or None)
