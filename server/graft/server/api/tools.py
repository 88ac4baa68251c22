"""A request's `tools`, `tool_choice` and `parallel_tool_calls`: what may be offered and called, all faults at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from graft.adapters.chat.tools import NO_PARAMETERS
from graft.server.engine.schema.bounds import check_json_schema
from graft.server.engine.tools.enforced import check_calls
from graft.server.engine.tools.tools import Calling, Tool, ToolUse
from graft.server.runtime.violations import Violations, shown

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FUNCTION_KEYS = ("name", "description", "parameters", "strict")
_CHOICES = 'none, auto, required, or {"type": "function", "function": {"name": …}}'


def read_tools(fields: Mapping[str, Any], violations: Violations) -> ToolUse | None:
    """What the request says of tools; None where it offers none. Usable only where no violation was added."""
    given = fields.get("tools") or []
    tools = _tools(given, violations) if isinstance(given, list) else ()
    if not isinstance(given, list):
        violations.add("tools", f"is {shown(given)}; it must be a list")
    parallel = fields.get("parallel_tool_calls", True)
    if not isinstance(parallel, bool):
        violations.add("parallel_tool_calls", f"is {shown(parallel)}; it must be true or false")
    calling, names = _choice(fields.get("tool_choice"), bool(given), violations)
    known = {tool.name for tool in tools}
    for name, field in names.items():
        if name not in known:
            remedy = f"there is {', '.join(sorted(known))[:200]}" if known else "there are none"
            violations.add(field, f"names {shown(name)}, which is none of `tools`: {remedy}")
    if not tools:
        return None
    is_one = isinstance(fields.get("tool_choice"), Mapping) and fields["tool_choice"].get("type") == "function"
    return ToolUse(
        tools=tools,
        allowed=tuple(tool for tool in tools if not names or tool.name in names),
        calling=calling,
        at_most_one=is_one or parallel is False,
    )


def check_enforced(use: ToolUse, violations: Violations) -> None:
    """The tools whose arguments no grammar can hold to their schema; it takes a while for large ones."""
    for index, problem in check_calls(use):
        violations.add(f"tools[{index}].function.parameters", problem)


def _tools(given: list[Any], violations: Violations) -> tuple[Tool, ...]:
    if len(given) > MAX_TOOLS:
        violations.add("tools", f"has {len(given)} entries; the limit is {MAX_TOOLS}")
        return ()
    tools: dict[str, Tool] = {}
    for index, one in violations.until_full(enumerate(given)):
        field = f"tools[{index}]"
        tool = _tool(one, field, violations)
        if tool is not None and tool.name in tools:
            violations.add(f"{field}.function.name", f"is {shown(tool.name)}, as an earlier tool's; names differ")
        elif tool is not None:
            tools[tool.name] = tool
    if len(tools) == len(given):
        _check_together(given, violations)
    return tuple(tools.values())


def _check_together(given: list[Any], violations: Violations) -> None:
    """Bounds on all tools together, where each of them keeps its own."""
    if not violations.num_found:
        check_json_schema({"": given}, "tools", violations, max_characters=math.inf)


def _tool(one: Any, field: str, violations: Violations) -> Tool | None:
    if not isinstance(one, Mapping):
        violations.add(field, f"is {shown(one)}; a tool is an object with type and function")
        return None
    if one.get("type", "function") != "function":
        problem = f"{shown(one['type'])} is not supported; only functions are called here: say `function`"
        violations.add(f"{field}.type", problem)
        return None
    for key in one:
        if key not in ("type", "function") and one[key] is not None:
            violations.add(f"{field}.{key[:40]}", "is no field of a tool, which has type and function; remove it")
    function = one.get("function")
    if not isinstance(function, Mapping):
        problem = "is missing" if function is None else f"is {shown(function)}"
        violations.add(f"{field}.function", f"{problem}; it is an object with name, description and parameters")
        return None
    return _function(function, f"{field}.function", violations)


def _function(function: Mapping[str, Any], field: str, violations: Violations) -> Tool | None:
    for key in function:
        if key not in _FUNCTION_KEYS and function[key] is not None:
            known = ", ".join(_FUNCTION_KEYS)
            violations.add(f"{field}.{key[:40]}", f"is no field of a function, which has {known}; remove it")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = "is missing" if name is None else f"is {shown(name)}"
        violations.add(f"{field}.name", f"{problem}; a name has 1 to 64 letters, digits, `_`, `-` and `.`")
        return None
    description, strict = function.get("description") or "", function.get("strict") or False
    if not isinstance(description, str):
        violations.add(f"{field}.description", f"is {shown(description)}; it must be text")
    if not isinstance(strict, bool):
        violations.add(f"{field}.strict", f"is {shown(strict)}; it must be true or false")
    parameters = function.get("parameters")
    if parameters in (None, {}):
        parameters = NO_PARAMETERS
    if not isinstance(parameters, Mapping):
        violations.add(f"{field}.parameters", f"is {shown(parameters)}; it must be a JSON Schema, an object")
        return None
    if parameters.get("type", "object") != "object":
        problem = f"has the type {shown(parameters['type'])}; arguments are an object: say type `object`"
        violations.add(f"{field}.parameters", problem)
    check_json_schema(parameters, f"{field}.parameters", violations)
    return Tool(name=name, description=str(description), parameters=parameters, strict=strict is True)


def _choice(wanted: Any, has_tools: bool, violations: Violations) -> tuple[Calling, dict[str, str]]:
    """How tools are called, and the names of those that alone may be, each with its field."""
    if wanted is None:
        return Calling.AUTO, {}
    if isinstance(wanted, str) and wanted in (*Calling,):
        if wanted == Calling.REQUIRED and not has_tools:
            violations.add("tool_choice", "is `required`, and there are no `tools`; give them, or leave it out")
        return Calling(wanted), {}
    if not isinstance(wanted, Mapping):
        violations.add("tool_choice", f"is {shown(wanted)}; it must be {_CHOICES}")
        return Calling.AUTO, {}
    if wanted.get("type") == "allowed_tools":
        return _allowed(wanted.get("allowed_tools"), violations)
    if wanted.get("type") != "function":
        problem = f"{shown(wanted.get('type'))} is not supported; it must be {_CHOICES}"
        violations.add("tool_choice.type", problem)
        return Calling.REQUIRED, {}
    field = "tool_choice.function.name"
    function = wanted.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        violations.add(field, "is missing: name one of `tools`")
        return Calling.REQUIRED, {}
    return Calling.REQUIRED, {name: field}


def _allowed(wanted: Any, violations: Violations) -> tuple[Calling, dict[str, str]]:
    field = "tool_choice.allowed_tools"
    mode = wanted.get("mode", "auto") if isinstance(wanted, Mapping) else None
    listed = wanted.get("tools") if isinstance(wanted, Mapping) else None
    if mode not in ("auto", "required") or not isinstance(listed, list) or not listed or len(listed) > MAX_TOOLS:
        violations.add(field, "must be an object with mode (auto or required) and tools, a list that is not empty")
        return Calling.AUTO, {}
    names: dict[str, str] = {}
    for index, one in enumerate(listed):
        function = one.get("function") if isinstance(one, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        place = f"{field}.tools[{index}].function.name"
        if isinstance(name, str):
            names[name] = place
        else:
            violations.add(place, "is missing: name one of `tools`")
    return Calling(mode), names
