"""Handing a finished adapter to a running server."""

from pathlib import Path

from graft.client import Client, Push


def publish(folder: Path, *, target: str, name: str, alias: str | None) -> Push:
    """Pushes the folder as a new version of ``name`` and moves ``alias`` to it.

    Raises:
        GraftClientError: the server cannot be reached or refuses the version.
    """
    with Client(target) as client:
        return client.push_adapter(folder, name=name, alias=alias)
