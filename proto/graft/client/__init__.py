"""Thin Python client for Graft, sync and asyncio. Needs grpcio and protobuf only."""

from graft.client.async_client import AsyncClient
from graft.client.channel import DEFAULT_TARGET
from graft.client.client import Client
from graft.client.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    GraftClientError,
    IncompleteStream,
    Internal,
    InvalidArgument,
    LeaseLost,
    NoAnswer,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)
from graft.client.fine_tuning.job_operation import JobOptions
from graft.client.generation import Choice, Chunk, Generation
from graft.client.grading import Observation
from graft.client.operation import Push, VersionDetails
from graft.client.prompt_run import PromptChunk, PromptRun
from graft.client.request import PromptLike, SamplingOptions

__all__ = [
    "DEFAULT_TARGET",
    "AsyncClient",
    "Cancelled",
    "Choice",
    "Chunk",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Generation",
    "GraftClientError",
    "IncompleteStream",
    "Internal",
    "InvalidArgument",
    "JobOptions",
    "LeaseLost",
    "NoAnswer",
    "NotFound",
    "Observation",
    "PermissionDenied",
    "PromptChunk",
    "PromptLike",
    "PromptRun",
    "Push",
    "ResourceExhausted",
    "SamplingOptions",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "VersionDetails",
    "Violation",
]
