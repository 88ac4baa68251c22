"""What a job tells of its gate: whether the alias moves, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.training.gate.gate import STABLE, Candidate
from graft.v1 import release_pb2 as pb


@dataclass(frozen=True, kw_only=True)
class GateNews:
    """An event of the job."""

    message: str
    level: str
    data: Mapping[str, Any]


def news_of(rollout: pb.Rollout) -> GateNews:
    """The server's decision."""
    name = f"{rollout.adapter}:{STABLE}"
    match rollout.stage:
        case pb.ROLLOUT_STAGE_STABLE:
            what = f"The gate is passed, and {name} is the version"
        case pb.ROLLOUT_STAGE_CANARY:
            canary = rollout.canary
            what = (
                f"The gate is passed: the version answers {canary.share_percent} % of the requests for "
                f"{rollout.adapter}, and becomes {STABLE} after {canary.num_answers} answers that are no worse"
            )
        case pb.ROLLOUT_STAGE_REFUSED:
            what = f"The gate is not passed, and {name} does not move"
        case _:
            what = f"The version's rollout has ended, and {name} does not point at it"
    passed = rollout.stage in (pb.ROLLOUT_STAGE_STABLE, pb.ROLLOUT_STAGE_CANARY)
    stage = pb.RolloutStage.Name(rollout.stage).removeprefix("ROLLOUT_STAGE_").lower()
    data = {
        "rollout": rollout.id,
        "stage": stage,
        "version": rollout.version_digest,
        "stable": rollout.stable_digest,
        "metric": rollout.report.metric,
        "reasons": list(rollout.reasons),
    }
    return GateNews(message=f"{what}: {'; '.join(rollout.reasons)}", level="info" if passed else "warn", data=data)


def not_carried_out(candidate: Candidate, problem: str) -> GateNews:
    """Nothing was decided."""
    message = f"The gate could not be carried out, and {candidate.adapter}:{STABLE} does not move: {problem}"
    return GateNews(message=message, level="warn", data={"stage": "refused", "version": candidate.digest})
