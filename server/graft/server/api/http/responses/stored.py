"""Programs as `/v1/responses` asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.http.openai_fields import CHAT
from graft.server.api.http.programs.call import passes, program_fields, program_headers
from graft.server.api.http.responses.request import ResolvePrompt, StoredPrompt
from graft.server.errors import BadInput, Violation
from graft.server.prompting.program.references import read_openai_prompt
from graft.server.prompting.running.programs import Programs
from graft.server.prompting.running.request import RunRequest
from graft.server.runtime.tenant import current_tenant


def stored_prompts(programs: Programs) -> ResolvePrompt:
    """Chats that are asked once, and answered as they are."""

    async def resolve(prompt: Mapping[str, Any]) -> StoredPrompt:
        reference, variables = read_openai_prompt(prompt)
        version = programs.resolve(reference, tenant=current_tenant())
        if not passes(version.program, CHAT):
            problem = "is no chat that is asked once: call it at /v1/chat/completions, with the same `prompt`"
            raise BadInput(Violation(field="prompt.id", problem=f"{version.prompt}@{version.number} {problem}"))
        request = RunRequest(program=version.program, version=version, variables=variables)
        prepared = await programs.prepare(request, tenant=current_tenant())
        turns = [{"role": turn.role, "content": turn.content} for turn in prepared.fitted.written.turns]
        fields = program_fields(prepared)
        fields["max_completion_tokens"] = fields.pop("max_tokens")
        return StoredPrompt(turns=turns, fields=fields, headers=program_headers(version))

    return resolve
