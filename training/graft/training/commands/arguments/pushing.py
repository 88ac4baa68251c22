"""What is made goes to a server."""

from __future__ import annotations

from pathlib import Path


def push(target: str, adapter: Path, *, name: str, alias: str | None) -> None:
    """Says which version it became."""
    from graft.training.job.publish import connect

    with connect(target) as client:
        pushed = client.push_adapter(adapter, name=name, alias=alias)
    told = f", {alias} points to it" if alias else ""
    print(f"pushed as version {pushed.version.number} of {name} ({pushed.version.digest}){told}")
