"""The one table of turns that a base is trained for: the roles that requests and prompts may name."""

from __future__ import annotations

from graft.server.runtime.violations import shown

ROLES = ("system", "user", "assistant")
# OpenAI's newer name of the same role.
_SYSTEM = "developer"
_TOOLS = "calling tools is not supported yet; leave these turns out"


def template_role(role: str) -> str:
    """The role as chat templates know it."""
    return "system" if role == _SYSTEM else role


def role_problem(role: object) -> str | None:
    """What is wrong with a turn's role, or None."""
    if role in ("tool", "function"):
        return f"is {shown(role)}; {_TOOLS}"
    if isinstance(role, str) and template_role(role) in ROLES:
        return None
    return f"{shown(role)} is none of {', '.join(ROLES)}"
