"""The one table of turns that bases are trained for: the roles that requests and prompts may name."""

from __future__ import annotations

from graft.server.runtime.violations import shown

ROLES = ("system", "user", "assistant")
"""What gRPC and prompts take; over HTTP there are turns of the role `tool`, too."""
TOOL = "tool"
DEVELOPER = "developer"
"""OpenAI's newer name of the system's role."""
_TOOLS = "tools are called over HTTP only; leave these turns out"


def template_role(role: str) -> str:
    """The role as chat templates know it."""
    return "system" if role == DEVELOPER else role


def role_problem(role: object) -> str | None:
    """What is wrong with the role of a turn without tools, or None."""
    if role in (TOOL, "function"):
        return f"is {shown(role)}; {_TOOLS}"
    if isinstance(role, str) and template_role(role) in ROLES:
        return None
    return f"{shown(role)} is none of {', '.join(ROLES)}, nor, over HTTP, {TOOL}"
