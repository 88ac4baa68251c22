"""`graft jobs create`: from arguments to a job."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.cli.failure import UserError

if TYPE_CHECKING:
    from graft.client import Client, JobOptions
    from graft.v1 import job_pb2

_FILE_ID = "file-"
_MAX_SHOWN = 40


def add_create_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a job may be asked."""
    from graft.client.fine_tuning.job_operation import METHODS

    parser.add_argument(
        "training_file", metavar="ROWS", help="a JSON Lines file, uploaded first; or an uploaded one's id"
    )
    parser.add_argument("--model", help="the base, or an adapter to go on from (default: the base that is served)")
    parser.add_argument("--method", choices=METHODS, default="supervised", help="default: supervised")
    parser.add_argument("--validation", metavar="ROWS", help="held-out rows: a file, or an uploaded one's id")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyperparameter: n_epochs, batch_size, learning_rate_multiplier, of DPO beta, …; repeatable",
    )
    parser.add_argument("--grader", metavar="FILE", help="for reinforcement: OpenAI's grader as JSON")
    parser.add_argument(
        "--gate",
        metavar="FILE",
        help='what the version must show before it answers, as JSON such as {"validation_loss": {}, "canary": {}}',
    )
    parser.add_argument("--suffix", help="a part of the new model's name")
    parser.add_argument("--adapter", help="push the versions to this adapter, in place of one of the job's own")
    parser.add_argument("--from-checkpoint", metavar="JOB[:STEP]", help="go on from another job's weights")
    parser.add_argument("--n-evals", type=int, metavar="N", help="how often the held-out rows are looked at")
    parser.add_argument("--seed", type=int, help="default: drawn")
    parser.add_argument("--priority", type=int, help="among your own jobs: from -100 to 100, the highest is next")
    parser.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    parser.add_argument(
        "--dry-run", action="store_true", help="of a supervised job: say what would be done and its cost; train nothing"
    )


def create(client: Client, args: argparse.Namespace) -> job_pb2.Job:
    """Upload what is not uploaded yet and make the job; of one that is refused no upload is kept.

    Raises `UserError` with all that is wrong with the arguments, before anything is sent.
    """
    options = options_of(args)
    model = args.model or client.info().base.name
    with _uploads(client) as uploaded:
        options["validation_file"] = uploaded(args.validation) if args.validation else ""
        return client.create_job(uploaded(args.training_file), model=model, **options)


def options_of(args: argparse.Namespace) -> JobOptions:
    """All but the files. Raises `UserError` with all that is wrong."""
    from graft.client.fine_tuning.job_operation import spec

    problems: list[str] = []
    asked = pairs("--set", args.set, problems)
    hyperparameters = {name: _number(name, value, problems) for name, value in asked.items()}
    metadata = pairs("--metadata", args.metadata, problems)
    grader = _grader(args.grader, problems) if args.grader else None
    gate = _gate(args.gate, problems) if args.gate else None
    for flag, text in (("ROWS", args.training_file), ("--validation", args.validation)):
        if text and not _is_id(text) and not Path(text).is_file():
            problems.append(f"{flag} {text}: there is no such file")
    options: JobOptions = {
        "method": args.method,
        "hyperparameters": hyperparameters,
        "metadata": metadata,
        "suffix": args.suffix or "",
        "adapter": args.adapter or "",
        "from_checkpoint": args.from_checkpoint or "",
        "dry_run": args.dry_run,
    }
    if grader is not None:
        options["grader"] = grader
    if gate is not None:
        options["gate"] = gate
    for name in ("seed", "priority", "n_evals"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    try:
        spec(args.model or "", "", options)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))
    return options


@contextmanager
def _uploads(client: Client) -> Iterator[Any]:
    from graft.client import GraftClientError

    made: dict[str, str] = {}

    def uploaded(text: str) -> str:
        if _is_id(text):
            return text
        if text not in made:
            made[text] = client.upload_file(text).id
        return made[text]

    try:
        yield uploaded
    except Exception:
        for file in made.values():
            with contextlib.suppress(GraftClientError):
                client.delete_file(file)
        raise


def _is_id(text: str) -> bool:
    return text.startswith(_FILE_ID) and not Path(text).exists()


def pairs(flag: str, texts: list[str], problems: list[str]) -> dict[str, str]:
    """What `NAME=VALUE` says; what is wrong with it goes to `problems`."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            problems.append(f"{flag} {text!r} is no NAME=VALUE")
        elif name in found:
            problems.append(f"{flag} {name} is said twice")
        found[name] = value
    return found


def _number(name: str, text: str, problems: list[str]) -> int | float | str:
    """A number where it is one; else the text, such as `auto`, which the server judges."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        problems.append(f"--set {name}={text[:_MAX_SHOWN]} is no number that can be sent: say a finite one, or auto")
        return text
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _gate(path: str, problems: list[str]) -> job_pb2.GateSpec | None:
    from google.protobuf.json_format import Parse, ParseError

    from graft.v1 import job_pb2

    try:
        return Parse(Path(path).read_text(encoding="utf-8"), job_pb2.GateSpec())
    except (OSError, ValueError, ParseError) as error:
        problems.append(f"--gate {path}: {error}")
        return None


def _grader(path: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        problems.append(f"--grader {path}: {error.strerror}")
    except ValueError as error:
        problems.append(f"--grader {path} is not JSON: {error}")
    except RecursionError:
        problems.append(f"--grader {path} is nested too deeply")
    else:
        if isinstance(value, dict):
            return value
        problems.append(f"--grader {path} holds no JSON object")
    return None
