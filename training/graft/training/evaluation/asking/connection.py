"""The running server whose models are asked."""

from __future__ import annotations

from graft.client import Client, GraftClientError, Unauthenticated
from graft.training.errors import ConfigurationError


def connected(target: str, *, token: str | None) -> Client:
    """A client that sends the token, once the server has answered it.

    Raises ``ConfigurationError`` where none answers, or the token is none.
    """
    host, colon, port = target.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ConfigurationError(f"--server {target!r} is no HOST:PORT, such as localhost:8470.")
    try:
        client = Client(target, token=token or None)
        client.info(timeout=10.0)
    except ValueError as error:
        raise ConfigurationError(f"--token (or GRAFT_TOKEN): {error}.") from None
    except Unauthenticated as error:
        raise ConfigurationError(f"--server {target}: {error}. The token is that of --token, or GRAFT_TOKEN.") from None
    except GraftClientError as error:
        raise ConfigurationError(f"--server {target}: no server answers there ({error}).") from None
    return client
