"""Whom a request asks, told once: its prompt is rendered for the version that then answers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from graft.adapters.catalog.snapshot import Resolved
from graft.adapters.errors import GraftError
from graft.server.engine.engine import EngineError
from graft.server.engine.text import Text
from graft.server.errors import NotReady, ServingError
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Serving


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """What the name means now, and the text that renders chats with it. None: that it means nothing is said later."""

    resolved: Resolved | None
    text: Text

    def required(self, model: str, serving: Serving) -> Resolved:
        """Raises what `Serving.check` did."""
        if self.resolved is None:
            serving.check(model, tenant=current_tenant())
            # Only now it means something, and the prompt was judged by another template.
            raise NotReady("the model has just become known here: try again")
        return self.resolved


async def asked_model(model: object, serving: Serving, text: Text) -> AskedModel:
    """Raises nothing for a name that means nothing: first the whole request is judged. Raises StoreUnavailable,
    `Overloaded` where the adapter's own template cannot be had.
    """
    resolved = None
    with contextlib.suppress(ServingError, GraftError, EngineError):
        resolved = serving.check(model, tenant=current_tenant()) if isinstance(model, str) and model else None
    if resolved is None:
        return AskedModel(resolved=None, text=text)
    return AskedModel(resolved=resolved, text=await serving.text_for(resolved, text))
