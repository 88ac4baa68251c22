"""Programs' versions and labels as messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.snapshot import PromptEntry
from graft.v1 import prompt_pb2 as pb


def prompt_version_message(
    version: PromptVersion, labels: Iterable[str], *, notices: Iterable[str] = (), whole: bool = True
) -> pb.PromptVersion:
    """`whole` is False in lists, where the programs could be more than a message holds."""
    return pb.PromptVersion(
        name=f"prompts/{version.prompt}/versions/{version.number}",
        prompt=version.prompt,
        number=version.number,
        digest=version.digest,
        program=version.text if whole else "",
        tags=version.tags,
        commit_message=version.commit_message,
        labels=labels,
        create_time=_timestamp(version.create_time),
        notices=notices,
    )


def label_message(label: PromptLabel, version: PromptVersion) -> pb.PromptLabel:
    return pb.PromptLabel(
        prompt=label.prompt,
        label=label.name,
        version_number=version.number,
        version_digest=version.digest,
        etag=label.etag,
        update_time=_timestamp(label.update_time),
    )


def summary_message(entry: PromptEntry) -> pb.PromptSummary:
    labels = [label_message(label, entry.versions[label.version_number]) for label in entry.labels.values()]
    return pb.PromptSummary(
        prompt=entry.name,
        num_versions=len(entry.versions),
        labels=labels,
        tags=entry.latest.tags,
        create_time=_timestamp(entry.create_time),
        update_time=_timestamp(entry.update_time),
    )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
