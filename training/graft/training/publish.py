"""Handing what was made to a running server."""

from pathlib import Path

from graft.client import Client, GraftClientError, Push
from graft.training.errors import ConfigurationError
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


def check_server(target: str) -> None:
    """Whether a server answers, before hours are spent on what it is to get. Raises ``ConfigurationError``."""
    host, colon, port = target.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ConfigurationError(f"--push {target!r} is no HOST:PORT, such as localhost:8470.")
    try:
        with Client(target) as client:
            client.info(timeout=10.0)
    except GraftClientError as error:
        raise ConfigurationError(f"--push {target}: no server answers there ({error}).") from None
