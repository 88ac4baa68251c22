"""One table of roles: both fronts and prompts go by it."""

from __future__ import annotations

from typing import get_args

from graft.server.prompting.program.program import Turn
from graft.server.runtime.roles import DEVELOPER, ROLES, role_problem, template_role


def test_prompts_take_the_roles_of_the_table() -> None:
    assert set(get_args(Turn.model_fields["role"].annotation)) == {*ROLES, DEVELOPER}


def test_every_other_role_is_named() -> None:
    for role in (*ROLES, DEVELOPER):
        assert role_problem(role) is None and template_role(role) in ROLES
    for other in ("wizard", "", None, 3, "System", "tool", "function", ["user"]):
        assert role_problem(other)
