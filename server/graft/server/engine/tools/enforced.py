"""The form that calls are held to, beside the other forms of a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.server.engine.schema.refusal import SchemaRefused
from graft.server.engine.schema.structured_outputs import Structure
from graft.server.engine.tools.form import calls_grammar
from graft.server.engine.tools.tools import ToolUse


def calls_structure(use: ToolUse, stop_ids: Sequence[int] = ()) -> Structure:
    """What a reply with these tools may be. Free text ends at any of the base's stop tokens, as without a grammar."""

    def write(room: int) -> Mapping[str, Any]:
        ends = "".join(f" | TEXT <[{one}]>" for one in stop_ids)
        return {"grammar": calls_grammar(use, room).replace("\nrest: TEXT\n", f"\nrest: TEXT{ends}\n")}

    return Structure(field="tools", write=write)


def check_calls(use: ToolUse, room: int = 1_000) -> list[tuple[int, str]]:
    """Of every tool whose arguments cannot be held to its schema: its place and the reason."""
    found = []
    for tool in use.allowed:
        alone = ToolUse(tools=(tool,), allowed=(tool,), calling=use.calling, at_most_one=True)
        try:
            calls_grammar(alone, room)
        except SchemaRefused as error:
            found.append((use.tools.index(tool), str(error)))
        except RecursionError:
            found.append((use.tools.index(tool), "its schemas lie too deep inside each other; make it flatter"))
    return found
