"""Whether what a method will make can go to a server as it is, before it is made."""

from __future__ import annotations

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.method import Route, Way
from graft.training.errors import ConfigurationError
from graft.training.job.publish import check_server_for

_PUSHED = (Route.AS_IS, Route.PROMPT)
_REMEDIES = {
    Route.BASE: "leave --push out, and serve it with graft serve --base",
    Route.MERGE: "leave --push out, compile it, and serve that with graft serve --base",
    Route.NONE: "leave --push out, or take lora",
}


def check_push(target: str, base: Base, form: ServingForm, way: Way, *, has_head: bool = False) -> None:
    """Raises ``ConfigurationError`` with all that keeps a server from taking it."""
    if way.route not in _PUSHED:
        remedy = _REMEDIES.get(way.route, "leave --push out, compile it, and push that with graft adapters push")
        raise ConfigurationError(f"--push {target}: what is trained is not what a server takes ({way}): {remedy}.")
    check_server_for(target, base, form, rank=way.rank or 0, has_head=has_head)
