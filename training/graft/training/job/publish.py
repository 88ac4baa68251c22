"""Talking to the running server that what is made is for."""

import os

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.client import Client, GraftClientError, Unauthenticated
from graft.training.errors import ConfigurationError
from graft.v1.common_pb2 import ServingForm as FormNumber
from graft.v1.server_pb2 import GetInfoResponse


def connect(target: str) -> Client:
    """A client that sends the token in ``GRAFT_TOKEN``. Raises ``ConfigurationError`` where it is none."""
    try:
        return Client(target, token=os.environ.get("GRAFT_TOKEN") or None)
    except ValueError as error:
        raise ConfigurationError(f"GRAFT_TOKEN: {error}.") from None


def check_server(target: str, *, flag: str = "--push") -> GetInfoResponse:
    """Whether a server answers, before hours are spent on what it is to get. Raises ``ConfigurationError``, which names
    the flag.
    """
    host, colon, port = target.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ConfigurationError(f"{flag} {target!r} is no HOST:PORT, such as localhost:8470.")
    try:
        with connect(target) as client:
            return client.info(timeout=10.0)
    except Unauthenticated as error:
        raise ConfigurationError(f"{flag} {target}: {error}. The token is looked for in GRAFT_TOKEN.") from None
    except GraftClientError as error:
        raise ConfigurationError(f"{flag} {target}: no server answers there ({error}).") from None


def check_server_for(
    target: str, base: Base, form: ServingForm, *, rank: int, has_head: bool = False, flag: str = "--push"
) -> None:
    """Whether a server answers that will take an adapter of this rank, or one with a head, on the base in this form.

    Raises ``ConfigurationError`` with all that keeps it from that.
    """
    info = check_server(target, flag=flag)
    reasons = []
    if info.base.digest != base.digest:
        reasons.append(f"it serves the base {info.base.name}, and this would be an adapter of {base.name}")
    elif info.form != FormNumber.Value(f"SERVING_FORM_{form.name}"):
        held = FormNumber.Name(info.form).removeprefix("SERVING_FORM_").lower().replace("_", "-")
        reasons.append(f"it holds the base as {held}, and this would be trained on it as {form}")
    if not info.limits.num_slots:
        reasons.append("it has no slots for adapters (see its --num-slots)")
    if rank > info.limits.max_rank:
        reasons.append(f"r is {rank}, and the largest rank there is {info.limits.max_rank} (see its --max-rank)")
    if has_head and not info.limits.max_labels:
        reasons.append("it computes no heads, as engines on CPUs do")
    if reasons:
        raise ConfigurationError(f"{flag} {target}: that server would refuse the adapter: {'; '.join(reasons)}.")
