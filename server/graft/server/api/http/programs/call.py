"""Which program a request calls, with what, and whether an ordinary request says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from graft.server.api.http.openai_fields import CHAT, Endpoint
from graft.server.api.http.openai_request import checked
from graft.server.api.http.programs.given import FIELDS, Given, read_given
from graft.server.api.messages import read_messages
from graft.server.engine.text import Text
from graft.server.errors import BadInput, Violation
from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.program.program import Decoding, PromptProgram, PromptType
from graft.server.prompting.program.references import (
    PromptReference,
    is_prompt_reference,
    read_openai_prompt,
    read_reference,
)
from graft.server.prompting.running.preparing import Prepared
from graft.server.prompting.running.programs import Programs
from graft.server.prompting.running.request import RunRequest
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations

# A call's own fields beside those of the endpoint.
_OWN = ("prompt", *FIELDS)
# What a run that asks more than once can do with a request's fields.
_OF_RUNS = frozenset({"model", "messages", "prompt", "stream", "stream_options"})
_SAME_NAMES = frozenset(Decoding.model_fields) - {"stop", "max_tokens"}


@dataclass(frozen=True, kw_only=True)
class ProgramCall:
    """`body` is an ordinary request that says the same as the call; None where the program has to be run."""

    prepared: Prepared
    body: dict[str, Any] | None
    model: str
    """What the caller calls the model."""
    stream: bool = False
    include_usage: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Which program answers."""
        version = self.prepared.request.version
        assert version is not None, "programs are called by name here"
        return program_headers(version)


def program_headers(version: PromptVersion) -> dict[str, str]:
    """Which program answers."""
    return {"x-graft-prompt": f"{version.prompt}@{version.number}", "x-graft-prompt-version": version.digest}


def calls_program(body: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Whether the request calls a program, by its model or, in a chat, by `prompt`."""
    model = body.get("model")
    named = isinstance(model, str) and is_prompt_reference(model)
    return named or (endpoint is CHAT and body.get("prompt") is not None)


async def read_call(body: Mapping[str, Any], endpoint: Endpoint, programs: Programs, text: Text) -> ProgramCall:
    """Raises `BadInput` with all that is wrong with the call, NotFound, and what preparing a run does."""
    reference, given, model = _named(body, endpoint)
    version = programs.resolve(reference, tenant=current_tenant())
    program = version.program
    why = why_run(program, endpoint)
    is_ordinary = why is None
    said, turns = _said(body, endpoint)
    names = await programs.variables(program)
    missing = [name for name in names if name not in given.variables]
    if said is not None and len(missing) == 1:
        given, turns = replace(given, variables={**given.variables, missing[0]: said}), []
    fields = _fields(body, endpoint, text, why)
    _check_form(fields, program)
    if turns and not (is_ordinary and endpoint is CHAT):
        _refuse_turns(endpoint, names, missing, turns)
    decoding = _decoding(fields)
    request = RunRequest(program=program, version=version, model=model, decoding=decoding, **vars(given))
    prepared = await programs.prepare(request, tenant=current_tenant())
    return ProgramCall(
        prepared=prepared,
        body=await _ordinary(prepared, body, endpoint, turns, text) if is_ordinary else None,
        model=str(body.get("model") or model or str(reference)),
        stream=fields.get("stream") is True,
        include_usage=bool((fields.get("stream_options") or {}).get("include_usage")),
    )


def _named(body: Mapping[str, Any], endpoint: Endpoint) -> tuple[PromptReference, Given, str | None]:
    """The reference, what is given with it, and the model that goes before the program's own."""
    violations = Violations()
    given = read_given(body, violations)
    violations.raise_any()
    model, prompt = body.get("model"), body.get("prompt")
    if endpoint is CHAT and prompt is not None:
        reference, values = read_openai_prompt(prompt)
        if isinstance(model, str) and is_prompt_reference(model):
            raise BadInput(Violation(field="prompt", problem="stands beside a model that is a program: name one"))
        given = replace(given, variables={**given.variables, **values})
        return reference, given, model if isinstance(model, str) and model else None
    return read_reference(str(model)), given, None


def _said(body: Mapping[str, Any], endpoint: Endpoint) -> tuple[str | None, list[dict[str, Any]]]:
    """What the request says beside variables: a text that may be one's value, or turns."""
    if endpoint is not CHAT:
        prompt = body.get("prompt")
        if not isinstance(prompt, str | None) and prompt != []:
            raise BadInput(Violation(field="prompt", problem="must be one text where a program is called"))
        return (prompt, [{"role": "user", "content": prompt}]) if isinstance(prompt, str) and prompt else (None, [])
    messages = body.get("messages")
    if messages in (None, []):
        return None, []
    violations = Violations()
    turns = read_messages(messages, violations)
    violations.raise_any()
    alone = len(turns) == 1 and turns[0]["role"] == "user"
    return (str(turns[0]["content"]) if alone else None), turns


def why_run(program: PromptProgram, endpoint: Endpoint) -> str | None:
    """Why no ordinary request says the same; None where one does: what is asked once, and answered as it is."""
    reasoning = program.reasoning
    if reasoning.method != "direct" or reasoning.paths > 1 or reasoning.verify:
        return "the program is asked more than once"
    if program.choosing.order == "entropy":
        return "the program's order is sought first"
    if program.output.type == "choices":
        return "the program's choices are scored"
    if program.extraction.method != "whole" or program.sourcing is not None:
        return "the program's answer is read from what is said"
    if (program.type is PromptType.CHAT) is not (endpoint is CHAT):
        where = "/v1/chat/completions" if program.type is PromptType.CHAT else "/v1/completions"
        return f"a {program.type} program takes it at {where}"
    return None


def _fields(body: Mapping[str, Any], endpoint: Endpoint, text: Text, why: str | None) -> dict[str, Any]:
    """The request's other fields, each of them usable, and such that the program can do something with it."""
    nothing = {"messages": [{"role": "user", "content": "-"}]} if endpoint is CHAT else {"prompt": "-"}
    own = {name: value for name, value in body.items() if name not in _OWN}
    fields = checked({**own, **nothing, "model": "base"}, endpoint, text).fields
    violations = Violations()
    for name in fields:
        if why is not None and name not in _OF_RUNS | _SAME_NAMES | {"max_tokens", "max_completion_tokens", "stop"}:
            says_nothing = fields[name] in ([], {}) or (name == "n" and fields[name] == 1)
            if not says_nothing:
                violations.add(name, f"is not taken here: {why}; leave it out")
    violations.raise_any()
    return fields


def _check_form(fields: Mapping[str, Any], program: PromptProgram) -> None:
    """The answer's form is the program's to say, where it says one."""
    violations = Violations()
    for name in ("response_format", "structured_outputs"):
        if program.output.type != "text" and fields.get(name) is not None:
            violations.add(name, f"stands beside the program's own output, {program.output.type}: leave it out")
    violations.raise_any()


def _decoding(fields: Mapping[str, Any]) -> Decoding:
    said = {name: fields[name] for name in _SAME_NAMES if fields.get(name) is not None}
    if (most := fields.get("max_completion_tokens") or fields.get("max_tokens")) is not None:
        said["max_tokens"] = most
    if (stop := fields.get("stop")) is not None:
        said["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return Decoding.model_construct(**{**dict.fromkeys(Decoding.model_fields), **said})


def _refuse_turns(endpoint: Endpoint, names: tuple[str, ...], missing: list[str], turns: list[dict[str, Any]]) -> None:
    field = "messages" if endpoint is CHAT else "prompt"
    if endpoint is CHAT and all(turn["role"] == "system" for turn in turns):
        field = "messages[0]"
    if missing:
        problem = f"could be the value of {', '.join(missing)}: name the values in `variables`"
    else:
        reads = f"reads {', '.join(names)}" if names else "reads no variables"
        problem = f"would be lost: this program {reads}, and each has its value; leave it empty"
    raise BadInput(Violation(field=field, problem=problem))


def program_fields(prepared: Prepared) -> dict[str, Any]:
    """What the program says of decoding and of the answer's form, and whom it asks, in OpenAI's words."""
    program = prepared.request.program
    # Greedy unless it says otherwise, by whichever door it is called.
    fields: dict[str, Any] = {"temperature": 0.0}
    fields |= {name: value for name, value in prepared.decoding if value is not None}
    if "stop" in fields:
        fields["stop"] = list(fields["stop"])
    if program.output.type == "json_schema":
        described = {"name": "answer", "schema": program.output.json_schema}
        fields["response_format"] = {"type": "json_schema", "json_schema": described}
    elif program.output.type == "regex":
        fields["structured_outputs"] = {"regex": program.output.regex}
    return {"max_tokens": prepared.max_tokens, **fields, "model": prepared.request.model_reference or "base"}


async def _ordinary(
    prepared: Prepared, body: Mapping[str, Any], endpoint: Endpoint, turns: list[dict[str, Any]], text: Text
) -> dict[str, Any]:
    """The request that says the same in a chat's or a completion's own fields; the caller's go before the program's."""
    own = {name: value for name, value in body.items() if name not in (*_OWN, "model") and value is not None}
    fields = program_fields(prepared) | own
    if "max_completion_tokens" in own:
        del fields["max_tokens"]
    written = prepared.fitted.written
    if endpoint is CHAT:
        given = [{"role": turn.role, "content": turn.content} for turn in written.turns]
        begins = 1 if turns and turns[0]["role"] == "system" else 0
        return {**fields, "messages": [*turns[:begins], *given, *turns[begins:]]}
    return {**fields, "prompt": await text.encode_marked(written.text or "", field="variables")}
