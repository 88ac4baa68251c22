"""Tells the service manager that the server is ready or ends: sd_notify(3), for units of `Type=notify`."""

from __future__ import annotations

import logging
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
READY = "READY=1"
STOPPING = "STOPPING=1"
_log = logging.getLogger(__name__)


def tell(state: str) -> None:
    """Send a state to the socket of `NOTIFY_SOCKET`, a path or an abstract name (`@…`); nothing where none is named.

    A manager that does not listen is no reason to end.
    """
    name = os.environ.get(VARIABLE, "")
    if not name.startswith(("/", "@")):
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(address)
            connection.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager was not told %s: %s", state, error)
