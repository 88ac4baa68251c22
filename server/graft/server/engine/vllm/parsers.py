"""vLLM's parsers of calls and reasoning: those of a base's family, or those that its server's settings name."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from vllm.parser import ParserManager
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from graft.server.engine.tools.families import OWN_TOOL_PARSER, Parsers, parsers_for
from graft.server.settings.settings import InvalidSetting

_log = logging.getLogger(__name__)


def usable_parsers(template: str, tokenizer: Any, *, tool: str | None, reasoning: str | None) -> Parsers:
    """Those of the family that writes such templates, but those that are named.

    Raises `InvalidSetting` where a named one is unknown or cannot read what this tokenizer writes. One that was not
    named and cannot is left out, and logged.
    """
    _check_known(tool, reasoning)
    parsers = parsers_for(template, tool=tool, reasoning=reasoning)
    if problem := _problem(Parsers(tool=parsers.tool), tokenizer):
        if tool is not None:
            raise InvalidSetting(f"tool_call_parser {tool}: {problem}; name another, or {OWN_TOOL_PARSER}")
        _log.warning("calls are read as %s: the family's parser %s: %s", OWN_TOOL_PARSER, parsers.tool, problem)
        parsers = replace(parsers, tool=None)
    if problem := _problem(Parsers(reasoning=parsers.reasoning), tokenizer):
        if reasoning is not None:
            raise InvalidSetting(f"reasoning_parser {reasoning}: {problem}; name another, or none")
        _log.warning("reasoning is read as content: the family's parser %s: %s", parsers.reasoning, problem)
        parsers = replace(parsers, reasoning=None)
    return parsers


def _check_known(tool: str | None, reasoning: str | None) -> None:
    tools, reasonings = ToolParserManager.list_registered(), ReasoningParserManager.list_registered()
    if tool is not None and tool not in tools:
        raise InvalidSetting(f"tool_call_parser is {tool!r}, but must be one of {', '.join(tools)}")
    if reasoning not in (None, "none", *reasonings):
        raise InvalidSetting(f"reasoning_parser is {reasoning!r}, but must be none or one of {', '.join(reasonings)}")


def _problem(parsers: Parsers, tokenizer: Any) -> str:
    """Why a parser cannot read what this tokenizer writes, or the empty string."""
    try:
        ParserManager.get_parser(
            tool_parser_name=parsers.tool,
            reasoning_parser_name=parsers.reasoning,
            enable_auto_tools=parsers.tool is not None,
            tokenizer=tokenizer,
        )
    except Exception as error:  # each parser has checks and errors of its own
        return " ".join(str(error.__cause__ or error).split())[:300]
    return ""
