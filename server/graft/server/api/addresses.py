"""Addresses to listen on, the same for gRPC and HTTP, in both families where the host names both."""

from __future__ import annotations

import errno
import socket

_ANY = ("", "0.0.0.0", "::")


def listeners(host: str, port: int, *, backlog: int = 1024) -> list[socket.socket]:
    """Listening sockets for every address of `host`, all on one port; with 0 on a free one.

    A wildcard of either family is one of both, as gRPC has it. Raises OSError that names the address.
    """
    host = plain(host)
    try:
        if host in _ANY:
            return [_any(port, backlog)]
        return _each(host, port, backlog)
    except OSError as error:
        raise OSError(f"cannot listen on {shown(host, port)}: {error.strerror or error}") from None


def plain(host: str) -> str:
    """The host without the brackets that an address with a port has."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def shown(host: str, port: int) -> str:
    """`host:port` as clients take it: brackets around IPv6."""
    return f"{_bracketed(host)}:{port}"


def reached(host: str) -> str:
    """The host by which this machine's other processes reach what listens there; brackets around IPv6."""
    return "localhost" if plain(host) in _ANY else _bracketed(host)


def _bracketed(host: str) -> str:
    host = plain(host)
    return f"[{host}]" if ":" in host else host


def _any(port: int, backlog: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", port), backlog=backlog)


def _each(host: str, port: int, backlog: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address[0]) for family, _, _, _, address in found)
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                one = socket.create_server((str(address), port), family=family, backlog=backlog)
            except OSError as error:
                # A name may stand for a family that this machine has not.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            opened.append(one)
            port = one.getsockname()[1]
    except BaseException:
        for one in opened:
            one.close()
        raise
    if not opened:
        raise missing or OSError(f"{host} has no address")
    return opened
