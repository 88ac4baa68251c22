"""`graft jobs`: trainings on the server, from the rows to the model."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from graft.cli.verbs import Shown, add_verb, run_verb

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import file_pb2, job_pb2

_NUM_LAST_EVENTS = 20
"""Among these is what a gate has said: it is told when all is trained."""
HELP = "create, list, show, watch, logs, results, cancel, pause, resume and compare fine-tuning jobs"
_EXAMPLES = """\
examples:
  graft jobs create rows.jsonl --watch                          train on the rows, and watch
  graft jobs create rows.jsonl --validation held.jsonl --set n_epochs=3 --suffix fable
  graft jobs create pairs.jsonl --method dpo --set beta=0.1
  graft jobs create tasks.jsonl --method reinforcement --grader grader.json
  graft jobs list --state running --metadata team=dates
  graft jobs watch                                              the newest job
  graft jobs results ftjob-… folder                             metrics.jsonl, OpenAI's table, TensorBoard
  graft jobs compare ftjob-… ftjob-… --picture curves.svg

A job is named by its id, or by its end as far as that is the only one among the newest hundred.
Exit codes: 0 success, 1 a job that is followed has failed or was cancelled, 2 a mistake of the caller's.
Workers carry jobs out: graft worker --help.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per verb."""
    from graft.cli.fine_tuning.asking import add_create_arguments

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = _add(verbs, "create", _create, "upload rows and make a job that learns from them")
    add_create_arguments(create)
    create.add_argument("--watch", action="store_true", help="follow the job to its end")
    _add_wanted(create)
    listed = _add(verbs, "list", _list, "jobs, newest first")
    listed.add_argument("--state", default="", help="only those in this state, such as running")
    listed.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", help="only those that have it")
    listed.add_argument("--limit", type=int, default=50, help="how many at most (default: 50)")
    _add_job(_add(verbs, "show", _show, "all that is known of a job"), "?")
    watch = _add(verbs, "watch", _watch, "follow a job to its end: live curves on a terminal, else a line per event")
    _add_job(watch, "?")
    _add_wanted(watch)
    logs = _add(verbs, "logs", _logs, "what a job has told, oldest first")
    _add_job(logs, "?")
    logs.add_argument("--metrics", action="store_true", help="each step's metrics, too")
    logs.add_argument("--tail", type=int, metavar="N", help="the last N only")
    results = _add(verbs, "results", _results, "download what a job left: metrics, TensorBoard's curves, its recipe")
    _add_job(results)
    results.add_argument("folder", nargs="?", help="where to (default: a new one with the job's id here)")
    for name, does in (
        ("cancel", "end a job at once"),
        ("pause", "have a job's worker save and stop"),
        ("resume", "have a paused job go on"),
    ):
        _add_job(_add(verbs, name, _moved, does))
    compare = _add(verbs, "compare", _compare, "jobs side by side: settings that differ, last metrics, curves")
    compare.add_argument("jobs", nargs="+", metavar="JOB")
    compare.add_argument("--picture", metavar="FILE", help="draw the curves into a .png, .svg or .pdf file, too")
    _add_wanted(compare)


def run(args: argparse.Namespace) -> int:
    """Call the server and print."""
    from graft.cli.failure import UserError
    from graft.client import NotFound

    try:
        code = run_verb(args)
    except NotFound as error:
        raise UserError(
            f"{error} (graft jobs list, graft files list and graft adapters list show what is there)"
        ) from None
    return getattr(args, "code", code)


def _add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[Client, argparse.Namespace], Shown],
    help: str,
) -> argparse.ArgumentParser:
    parser = add_verb(verbs, name, act, help)
    parser.add_argument("--json", action="store_const", const="json", dest="output", help="the same as --output json")
    return parser


def _add_job(parser: argparse.ArgumentParser, num: str | None = None) -> None:
    parser.add_argument("job", nargs=num, help="its id" if num is None else "its id (default: the newest job)")


def _add_wanted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="WORD",
        help="draw the metrics whose names hold it (default: loss, reward and learning rate); repeatable",
    )


def _create(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.fine_tuning.asking import create

    job = create(client, args)
    if not args.watch:
        return job, f"{job.id}\nfollow it: graft jobs watch {job.id}"
    return _followed(client, job, args)


def _watch(client: Client, args: argparse.Namespace) -> Shown:
    return _followed(client, client.get_job(_id(client, args.job)), args)


def _followed(client: Client, job: job_pb2.Job, args: argparse.Namespace) -> Shown:
    """A job that did not succeed is a failure of what was asked. In JSON a line each: the job, its events, the job."""
    from graft.cli.failure import FAILED
    from graft.cli.fine_tuning.following import follow, json_line, outcome
    from graft.cli.fine_tuning.plan import plan_text
    from graft.cli.plots.screen import style_of
    from graft.machine.control_characters import harmless
    from graft.v1 import job_pb2

    as_json = args.output == "json"
    args.output = "text"
    if as_json:
        print(json_line(job), flush=True)
    try:
        job = follow(client, job.id, as_json=as_json, wanted=args.metric)
    except KeyboardInterrupt:
        print(f"the job goes on: graft jobs watch {job.id}, or graft jobs cancel {job.id}", file=sys.stderr)
        raise
    args.code = 0 if job.state == job_pb2.JOB_STATE_SUCCEEDED else FAILED
    if as_json:
        return job, json_line(job)
    plan = f"{plan_text(job.plan, style_of(sys.stdout))}\n" if job.HasField("plan") else ""
    events = client.job_events(job.id, limit=_NUM_LAST_EVENTS) if job.spec.HasField("gate") else []
    return job, plan + harmless(outcome(job, events))


def _list(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError
    from graft.cli.fine_tuning.asking import pairs
    from graft.cli.fine_tuning.texts import jobs_table

    problems: list[str] = []
    metadata = pairs("--metadata", args.metadata, problems)
    if problems:
        raise UserError("; ".join(problems))
    try:
        found = client.jobs(state=args.state, metadata=metadata, limit=args.limit)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not found:
        is_all = not args.state and not metadata
        return found, "no jobs yet: graft jobs create ROWS.jsonl" if is_all else "no such jobs"
    return found, jobs_table(found)


def _show(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.fine_tuning.curves import Curves
    from graft.cli.fine_tuning.plan import plan_text
    from graft.cli.fine_tuning.texts import job_text
    from graft.cli.plots.screen import style_of

    job_id = _id(client, args.job)
    job, checkpoints = client.get_job(job_id), client.job_checkpoints(job_id)
    curves = Curves(client.job_events(job_id)[::-1])
    metrics = {name: value for name in curves.names if (value := curves.last(name)) is not None}
    files = _files(client, [job.spec.training_file, job.spec.validation_file, *job.result.result_files])
    names = {file.id: file.filename for file in files}
    text = job_text(job, checkpoints, metrics, names)
    if job.HasField("plan"):
        text += f"\n{plan_text(job.plan, style_of(sys.stdout))}"
    return {"job": job, "checkpoints": checkpoints}, text


def _results(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError
    from graft.cli.fine_tuning.downloading import download_together

    job = client.get_job(_id(client, args.job))
    if not job.result.result_files:
        raise UserError(f"{job.id} has no result files: a job has them when it has succeeded")
    folder = Path(args.folder or job.id)
    files = _files(client, job.result.result_files)
    gone = [one for one in job.result.result_files if one not in {file.id for file in files}]
    if not files:
        raise UserError(f"{', '.join(gone)}: all result files of {job.id} were deleted")
    paths = [folder / Path(file.filename).name for file in files]
    if there := [str(path) for path in paths if path.exists()]:
        raise UserError(f"{', '.join(there)}: already there, nothing was written; choose another folder")
    download_together(client, files, folder)
    lines = [*map(str, paths), *(f"{one} was deleted" for one in gone)]
    return [str(path) for path in paths], "\n".join(lines)


def _files(client: Client, ids: Iterable[str]) -> list[file_pb2.File]:
    """Those that are there still."""
    from graft.client import NotFound

    found: list[file_pb2.File] = []
    for one in filter(None, ids):
        with contextlib.suppress(NotFound):
            found.append(client.get_file(one))
    return found


def _logs(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.fine_tuning.texts import event_line

    events = [one for one in client.job_events(_id(client, args.job))[::-1] if args.metrics or not one.is_metrics]
    if args.tail is not None:
        events = events[-args.tail :] if args.tail > 0 else []
    return events, "\n".join(map(event_line, events))


def _moved(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.fine_tuning.texts import state_of

    calls = {"cancel": client.cancel_job, "pause": client.pause_job, "resume": client.resume_job}
    job = calls[args.verb](_id(client, args.job))
    return job, f"{job.id} is {state_of(job)}"


def _compare(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError
    from graft.cli.fine_tuning.comparing import Compared, as_text, as_value, overlaid
    from graft.cli.fine_tuning.curves import Curves
    from graft.cli.fine_tuning.picture import check_picture, draw
    from graft.cli.plots.screen import style_of

    picture = check_picture(args.picture) if args.picture else None
    ids = list(dict.fromkeys(_id(client, one) for one in args.jobs))
    if len(ids) < 2:
        raise UserError(f"{' '.join(args.jobs)} names one job: give two or more")
    compared = [Compared(job=client.get_job(one), curves=Curves(client.job_events(one)[::-1])) for one in ids]
    try:
        if picture is not None:
            draw(picture, overlaid(compared, args.metric))
        text = as_text(compared, args.metric, style_of(sys.stdout))
        return as_value(compared, args.metric), text
    except ValueError as error:
        raise UserError(str(error)) from None


def _id(client: Client, text: str | None) -> str:
    """The job that is meant: by its id, by its end, or the newest. Raises `UserError` where it is not one."""
    from graft.cli.failure import UserError

    if text is not None and text.startswith("ftjob-"):
        return text
    newest = client.jobs(limit=100)
    if not newest:
        raise UserError("there are no jobs yet: graft jobs create ROWS.jsonl")
    if text is None:
        return newest[0].id
    found = [one.id for one in newest if one.id.endswith(text)]
    if len(found) != 1:
        what = "more than one job ends" if found else "no job ends"
        raise UserError(f"{what} in {text!r}: graft jobs list shows them")
    return found[0]
