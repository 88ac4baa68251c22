"""The verbs of `graft adapters` by which a version comes to answer by and by."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from graft.cli.verbs import Shown, add_verb

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import release_pb2


def add_release_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`canary`, `promote`, `rollback` and `rollouts`."""
    canary = add_verb(
        verbs, "canary", _canary, "give a version a share of the traffic, until it is stable or taken back"
    )
    canary.add_argument("adapter")
    canary.add_argument("version")
    canary.add_argument(
        "--share", type=int, metavar="PERCENT", help="of the requests that name the adapter (default: 10)"
    )
    canary.add_argument("--answers", type=int, metavar="N", help="after so many it becomes stable (default: 200)")
    canary.add_argument("--tolerance", type=float, help="by so much it may be worse in the end (default: 0.05)")
    canary.add_argument(
        "--max-false-alarm",
        type=float,
        help="the probability that one that is not worse is taken back (default: 0.05)",
    )
    canary.add_argument(
        "--needs-outcomes", action="store_true", help="count only answers whose outcome was reported (/v1/outcomes)"
    )
    add_verb(verbs, "promote", _promote, "make the canary stable now").add_argument("adapter")
    back = add_verb(verbs, "rollback", _roll_back, "take the canary back, or what became stable last")
    back.add_argument("adapter")
    rollouts = add_verb(verbs, "rollouts", _rollouts, "what became of versions on their way to answer, and why")
    rollouts.add_argument("adapter", nargs="?", default="")
    rollouts.add_argument("--limit", type=int, default=20, help="the newest so many (default: %(default)s)")


def _canary(client: Client, args: argparse.Namespace) -> Shown:
    rollout = client.begin_canary(
        args.adapter,
        args.version,
        share_percent=args.share,
        num_answers=args.answers,
        tolerance=args.tolerance,
        max_false_alarm=args.max_false_alarm,
        needs_outcomes=args.needs_outcomes,
    )
    canary = rollout.canary
    text = (
        f"{args.adapter}@{args.version} answers {canary.share_percent} % of the requests for {args.adapter}; "
        f"after {canary.num_answers} answers it becomes stable, or it is taken back ({rollout.id})"
    )
    return rollout, text


def _promote(client: Client, args: argparse.Namespace) -> Shown:
    rollout = client.promote(args.adapter)
    return rollout, _line(rollout)


def _roll_back(client: Client, args: argparse.Namespace) -> Shown:
    rollout = client.roll_back(args.adapter)
    return rollout, _line(rollout)


def _rollouts(client: Client, args: argparse.Namespace) -> Shown:
    found = client.rollouts(args.adapter, limit=args.limit)
    if not found:
        return found, "no rollouts yet: graft adapters canary ADAPTER VERSION, or a job with a gate"
    return found, "\n".join(_line(one) for one in found)


def _line(rollout: release_pb2.Rollout) -> str:
    from graft.cli.terminal import short

    head = f"{rollout.id}  {rollout.adapter}  {short(rollout.version_digest)}  {stage_name(rollout)}"
    canary, stable = rollout.canary_tally, rollout.stable_tally
    if rollout.HasField("canary"):
        told = ", ".join(
            f"{side} {tally.num_answers} answers, {tally.num_errors} errors"
            + (f", outcomes {tally.mean_outcome:.3f} of {tally.num_outcomes}" if tally.num_outcomes else "")
            for side, tally in (("canary", canary), ("stable", stable))
        )
        head += f"\n    {rollout.canary.share_percent} %: {told}"
    return "\n    ".join([head, *rollout.reasons])


def stage_name(rollout: release_pb2.Rollout) -> str:
    """As people say it: `rolled back`."""
    from graft.v1 import release_pb2

    name = release_pb2.RolloutStage.Name(rollout.stage)
    return name.removeprefix("ROLLOUT_STAGE_").lower().replace("_", " ")
