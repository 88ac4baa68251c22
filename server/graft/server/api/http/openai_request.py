"""An OpenAI request's body, checked whole and turned into prompts, before anything is held for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graft.adapters.chat.shown import as_rendered
from graft.server.api.http.openai_checks import check_sequences, check_values
from graft.server.api.http.openai_fields import CHAT, Endpoint, settled
from graft.server.api.limits import MAX_SEQUENCES
from graft.server.api.messages import read_messages
from graft.server.api.tools import check_enforced, read_tools
from graft.server.engine.engine import Prompt
from graft.server.engine.schema.structured_outputs import check_structure, json_form, structure_of
from graft.server.engine.text import Text
from graft.server.engine.tools.enforced import calls_structure
from graft.server.engine.tools.tools import Calling, ToolUse
from graft.server.errors import BadInput, Violation
from graft.server.runtime.violations import Violations, shown

# How a chat template is told about reasoning, by the names in use.
_REASONING = ("reasoning_effort", "enable_thinking")
_RENDERED = ("chat_template_kwargs", "parallel_tool_calls", "reasoning_effort", "tool_choice", "tools")
_BESIDE_CALLS = (
    "cannot be kept by a reply that calls tools; beside tool_choice `auto` it may be a JSON schema, else leave it out"
)
Source = str | list[int]


@dataclass(frozen=True, kw_only=True)
class CheckedBody:
    """The fields that say something, each of them usable, and the prompts not yet tokenized, each under its field."""

    model: str
    fields: dict[str, Any]
    turns: list[dict[str, Any]]
    sources: dict[str, Source]
    tools: ToolUse | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template is told beside turns and tools."""

    def check_form(self) -> None:
        """Raises `BadInput`, `InvalidRequest` where no reply can have the form that is asked for: it takes a while."""
        use, form = self.tools, structure_of(self.fields)
        if use is None or use.calling is Calling.NONE or not (use.is_enforced or form is not None):
            check_structure(self.fields)
            return
        violations = Violations()
        for name in ("response_format", "structured_outputs"):
            if form is not None and name in self.fields and use.reply_schema is None:
                violations.add(name, _BESIDE_CALLS)
        check_enforced(use, violations)
        violations.raise_any()
        check_structure(self.fields)
        check_structure(self.fields, calls_structure(use))

    async def prompts(self, text: Text) -> tuple[Prompt, ...]:
        """Raises `BadInput` where a prompt leaves the answer no room."""
        if self.turns:
            use, reads = self.tools, text.template_reads()
            listed = None if use is None else [tool.listed() for tool in use.tools]
            is_callable = use is not None and use.calling is not Calling.NONE
            turns, tools = as_rendered(self.turns, listed, reads, callable_now=is_callable)
            ids = await text.render_chat(turns, field="messages", variables={**tools, **self.variables})
            prompts = {"messages": Prompt(token_ids=ids)}
        else:
            prompts = await self._encoded(text)
        violations = Violations()
        for name, prompt in prompts.items():
            text.check_fits(len(prompt.token_ids), field=name, violations=violations)
        violations.raise_any()
        if self.fields.get("echo"):
            return await self._echoed(list(prompts.values()), text)
        return tuple(prompts.values())

    async def _encoded(self, text: Text) -> dict[str, Prompt]:
        texts = {field: source for field, source in self.sources.items() if isinstance(source, str)}
        encoded = dict(zip(texts, await text.encode_all(texts), strict=True))
        return {
            field: Prompt(token_ids=encoded[field], text=source)
            if isinstance(source, str)
            else Prompt(token_ids=source)
            for field, source in self.sources.items()
        }

    async def _echoed(self, prompts: Sequence[Prompt], text: Text) -> tuple[Prompt, ...]:
        """With the texts of those that came as ids."""
        of_ids = [prompt.token_ids for prompt in prompts if prompt.text is None]
        spelled = iter(await text.spelled_all(of_ids, goes_on=self.fields.get("max_tokens") != 0))
        return tuple(replace(prompt, text=next(spelled)) if prompt.text is None else prompt for prompt in prompts)


def checked(body: Mapping[str, Any], endpoint: Endpoint, text: Text) -> CheckedBody:
    """Raises `BadInput` with everything that is wrong with the body."""
    violations = Violations()
    fields = settled(body, endpoint, violations)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        problem = "is missing" if model is None else f"is {shown(model)}"
        violations.add("model", f"{problem}: name the base or an adapter, as text")
    check_values(fields, endpoint, text.vocab_size, violations)
    turns: list[dict[str, Any]] = []
    sources: dict[str, Source] = {}
    tools: ToolUse | None = None
    if endpoint is CHAT:
        turns = read_messages(fields.get("messages"), violations)
        fields["messages"] = turns
        tools = read_tools(fields, violations)
        _check_variables(fields, text, violations)
    else:
        sources = _sources(fields.get("prompt"), text, violations)
        check_sequences(len(sources), fields.get("n"), violations)
    violations.raise_any()
    return CheckedBody(
        model=str(model),
        fields=fields,
        turns=turns,
        sources=sources,
        tools=None if tools is None else _with_form(tools, fields, text),
        variables=_template_variables(fields, text) if endpoint is CHAT else {},
    )


def _with_form(use: ToolUse, fields: Mapping[str, Any], text: Text) -> ToolUse:
    schema = json_form(fields) if use.calling is Calling.AUTO else None
    return replace(use, in_text=not text.template_reads().tools, reply_schema=schema)


def bounded(fields: Mapping[str, Any], prompts: tuple[Prompt, ...], text: Text) -> dict[str, Any]:
    """What the engine is still to hear: `max_tokens` within the room that the context has, nothing that is rendered."""
    room = max(text.max_model_tokens - len(prompt.token_ids) for prompt in prompts)
    _check_least(fields, prompts, text)
    names = ("max_tokens", "max_completion_tokens")
    return {
        name: min(int(value), room) if name in names else value
        for name, value in fields.items()
        if name not in _RENDERED
    }


def _check_least(fields: Mapping[str, Any], prompts: tuple[Prompt, ...], text: Text) -> None:
    """The tokens that are generated at least must have room behind the longest prompt."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    least, room = int(fields.get("min_tokens") or 0), text.max_model_tokens - longest
    if least > room:
        problem = f"is {least}; behind a prompt of {longest} tokens the context of {text.max_model_tokens} holds {room}"
        raise BadInput(Violation(field="min_tokens", problem=f"{problem}: lower it, or shorten the prompt"))


def _sources(prompt: Any, text: Text, violations: Violations) -> dict[str, Source]:
    if prompt is None or prompt in ("", []):
        problem = "is missing" if prompt is None else "is empty"
        violations.add("prompt", f"{problem}: give text, token ids, or a list of either")
        return {}
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if not isinstance(prompt, list):
        violations.add("prompt", f"is {shown(prompt)}; give text, token ids, or a list of either")
        return {}
    if not any(isinstance(one, str | list) for one in prompt):
        return {"prompt": text.check_ids(prompt, field="prompt", violations=violations)}
    if len(prompt) > MAX_SEQUENCES:
        violations.add("prompt", f"has {len(prompt)} prompts; the limit is {MAX_SEQUENCES}")
        return {}
    kind = str if isinstance(prompt[0], str) else list
    return {
        f"prompt[{index}]": _source(one, kind, f"prompt[{index}]", text, violations)
        for index, one in violations.until_full(enumerate(prompt))
    }


def _source(one: Any, kind: type, field: str, text: Text, violations: Violations) -> Source:
    if one in ("", []):
        violations.add(field, "is empty")
    elif not isinstance(one, kind):
        expected = "text as the first is" if kind is str else "a list of token ids"
        violations.add(field, f"is {shown(one)}; give {expected}")
    elif isinstance(one, str):
        return one
    elif isinstance(one, list):
        return text.check_ids(one, field=field, violations=violations)
    return ""


def _template_variables(fields: Mapping[str, Any], text: Text) -> dict[str, Any]:
    """What the chat template is told beside turns and tools."""
    known = text.template_variables()
    variables: dict[str, Any] = {}
    if "reasoning_effort" in fields:
        effort = fields["reasoning_effort"]
        variables |= {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    given = fields.get("chat_template_kwargs", {})
    return variables | {name: value for name, value in given.items() if name in known}


def _check_variables(fields: Mapping[str, Any], text: Text, violations: Violations) -> None:
    """A variable that the template does not read would be lost, unless it says no."""
    known = text.template_variables()
    effort = fields.get("reasoning_effort")
    if isinstance(effort, str) and effort != "none" and known.isdisjoint(_REASONING):
        violations.add("reasoning_effort", f"{shown(effort)} has no effect on this base; say `none`, or leave it out")
    given = fields.get("chat_template_kwargs", {})
    for name, value in violations.until_full(given.items() if isinstance(given, Mapping) else ()):
        says_nothing = value is None or (value is False and name != "add_generation_prompt")
        if name not in known and not says_nothing:
            remedy = f"it reads {', '.join(sorted(known))}" if known else "it reads none; remove it"
            violations.add(f"chat_template_kwargs.{name[:40]}", f"is no variable of the base's chat template: {remedy}")
