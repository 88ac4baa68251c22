"""The tools, calls and results of a row, in the form that a server gives to a chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.adapters.chat.tools import NO_PARAMETERS, listed
from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.fields import check_keys, check_texts, json_of, kind_of, list_of, object_of


def tools_of(given: Any) -> tuple[Mapping[str, Any], ...]:
    """OpenAI's list, one of plain functions, or the JSON text of either. Raises ``BadLine``."""
    value = json_of(given, "tools")
    if value in (None, [], ""):
        return ()
    return tuple(_tool(one, f"tool {number}") for number, one in enumerate(list_of(value, "tools"), start=1))


def _tool(given: Any, where: str) -> Mapping[str, Any]:
    tool = object_of(json_of(given, where), where)
    function = tool
    if "function" in tool or "type" in tool:
        check_keys(tool, {"type", "function"}, where)
        if tool.get("type", "function") != "function":
            raise BadLine(f"{where} has the type {tool['type']!r}; only functions are called.")
        function = object_of(tool.get("function"), f"the function of {where}")
    check_keys(function, {"name", "description", "parameters", "strict"}, f"the function of {where}")
    name, description = function.get("name"), function.get("description", "")
    if not isinstance(name, str) or not name or not isinstance(description, str):
        raise BadLine(f"the function of {where} needs a name, a string, and may have a description, a string.")
    parameters = json_of(function.get("parameters"), f"the parameters of {where}") or NO_PARAMETERS
    check_texts(function, where)
    return listed(name, description, object_of(parameters, f"the parameters of {where}"))


class Calls:
    """The calls of one conversation so far, and which of them are answered.

    Ids that a row leaves out are given in its order, in nine letters and digits, which is what Mistral's templates ask.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._waiting: list[str] = []

    def made(self, given: Any, where: str) -> tuple[Mapping[str, Any], ...]:
        """An assistant's ``tool_calls``. Raises ``BadLine``."""
        calls = list_of(json_of(given, f"{where}: tool_calls"), f"{where}: tool_calls")
        return tuple(self._made(one, f"{where}: call {number}") for number, one in enumerate(calls, start=1))

    def answered(self, call_id: Any, name: Any, where: str) -> tuple[str, str]:
        """The call that a result is of, and its function. Raises ``BadLine``."""
        if call_id is not None and call_id not in self._names:
            raise BadLine(f"{where}: tool_call_id is {call_id!r}, which is the id of no call in an earlier turn.")
        if call_id is None:
            fitting = [one for one in self._waiting if name in (None, self._names[one])]
            if not fitting:
                raise BadLine(f"{where} is the result of no call; a tool answers a call of an earlier turn.")
            call_id = fitting[0]
        if name not in (None, self._names[call_id]):
            raise BadLine(f"{where} has the name {name!r}, and the call is of {self._names[call_id]!r}.")
        if call_id in self._waiting:
            self._waiting.remove(call_id)
        return call_id, self._names[call_id]

    def _made(self, given: Any, where: str) -> Mapping[str, Any]:
        call = object_of(given, where)
        function = call
        if "function" in call or "type" in call:
            check_keys(call, {"id", "type", "function", "index"}, where)
            if call.get("type", "function") != "function":
                raise BadLine(f"{where} has the type {call['type']!r}; only functions are called.")
            function = object_of(call.get("function"), f"{where}: function")
        check_keys(function, {"id", "name", "arguments"}, where)
        name, call_id = function.get("name"), call.get("id", f"call{len(self._names) + 1:05d}")
        if not isinstance(name, str) or not name:
            raise BadLine(f"{where} names no function.")
        if not isinstance(call_id, str) or call_id in self._waiting:
            raise BadLine(f"{where} has the id {call_id!r}; ids are strings, and each is given once.")
        arguments = json_of(function.get("arguments") or {}, f"{where}: arguments")
        if not isinstance(arguments, dict):
            raise BadLine(f"{where}: arguments must be an object, or its JSON, not {kind_of(arguments)}.")
        check_texts(arguments, where)
        self._names[call_id] = name
        self._waiting.append(call_id)
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
