"""How both clients connect: message sizes, keepalive, retries where repeating is harmless, and the caller's token."""

from __future__ import annotations

import json
import re

import grpc

# Where a server listens unless it is told otherwise.
DEFAULT_TARGET = "localhost:8470"
# Reading twice is reading once: only these calls are retried, and only when no server took them.
_IDEMPOTENT = {
    "InferenceService": ("Classify", "Score", "Tokenize"),
    "AdapterService": ("GetAdapter", "ListAdapters", "GetVersion", "ListVersions", "ListResidency"),
    "BaseService": ("ListBases",),
    "FileService": ("GetFile", "ListFiles"),
    "GradingService": ("Grade",),
    "JobService": ("GetJob", "ListJobs", "ListJobEvents", "ListJobCheckpoints"),
    "PromptService": ("GetPromptVersion", "ListPrompts", "ListPromptVersions", "PreviewPrompt"),
    "ReleaseService": ("GetRollout", "ListRollouts"),
    "ServerService": ("GetInfo",),
    "TrainService": ("GetTraining",),
}
_MAX_MESSAGE_BYTES = 16 << 20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, section 2.1


def service_config() -> str:
    """The gRPC service config as JSON."""
    names = [
        {"service": f"graft.v1.{service}", "method": method}
        for service, methods in _IDEMPOTENT.items()
        for method in methods
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def options() -> list[tuple[str, str | int]]:
    """Channel options."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # A server that begins again is found soon: gRPC's own pauses between two tries grow to two minutes.
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def blocking(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A channel whose calls block, without TLS where there are no credentials."""
    if credentials is None:
        return grpc.insecure_channel(target, options=options())
    return grpc.secure_channel(target, credentials, options=options())


def checked_token(token: str) -> str:
    """The token. Raises ValueError, which does not repeat it, for one that no server could be sent."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("a token has letters, digits and -._~+/ only, and may end in =")
    return token


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What every call carries beside its message. Raises ValueError, see `checked_token`."""
    return () if token is None else (("authorization", f"Bearer {checked_token(token)}"),)
