"""Handing what was made to a running server."""

from pathlib import Path

from graft.client import Client, Push
from graft.v1.base_pb2 import RegisteredBase


def publish(folder: Path, *, target: str, name: str, alias: str | None) -> Push:
    """Pushes the folder as a new version of ``name`` and moves ``alias`` to it.

    Raises:
        GraftClientError: the server cannot be reached or refuses the version.
    """
    with Client(target) as client:
        return client.push_adapter(folder, name=name, alias=alias)


def publish_base(folder: Path, *, target: str, name: str) -> RegisteredBase:
    """Uploads the base in the folder: a server that starts on the same data serves it by its name.

    Raises:
        GraftClientError: the server cannot be reached or refuses the base.
    """
    with Client(target) as client:
        return client.push_base(folder, name=name)
