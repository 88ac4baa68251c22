"""``graft evaluate run|tasks|import|gate``: tasks from files against the models of a running server."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.training.commands.arguments.server import add_server_argument, add_token_argument

if TYPE_CHECKING:
    from graft.client import Client
    from graft.training.evaluation.asking.model import Model
    from graft.training.evaluation.running.run import Plan
    from graft.training.evaluation.tasks.task import Task

SUITES = ("run", "tasks", "import", "gate")
NUM_STREAMS = 32


def configure(suites: Any) -> None:
    """Adds the subcommands."""
    run_ = suites.add_parser("run", help="run tasks: ready ones, JSONL, lm-eval YAML, promptfoo, OpenAI evals")
    _of_tasks(run_)
    run_.add_argument("--model", action="append", metavar="NAME", help=_MODEL + "; repeatable (default: base)")
    run_.add_argument("--report", type=Path, metavar="FOLDER", help=_REPORT)
    run_.add_argument("--output", choices=("text", "json", "markdown"), default="text")
    listed = suites.add_parser("tasks", help="list the tasks that come with Graft")
    listed.add_argument("--output", choices=("text", "json"), default="text")
    import_ = suites.add_parser("import", help="make a task of a promptfooconfig.yaml or an OpenAI eval")
    import_.add_argument("file", type=Path, metavar="FILE")
    import_.add_argument("--to", type=Path, metavar="FILE", help="where to write it (default: NAME.task.json here)")
    import_.add_argument("--programs", type=Path, metavar="FOLDER", help="write promptfoo's prompts as programs, too")
    import_.add_argument("--output", choices=("text", "json"), default="text")
    gate = suites.add_parser("gate", help="exit 0 where a candidate may take a baseline's place, else 1")
    gate.add_argument("--baseline", required=True, metavar="NAME", help=_MODEL)
    gate.add_argument("--candidate", required=True, metavar="NAME", help=_MODEL)
    gate.add_argument("--task", action="append", required=True, metavar="TASK", help="as in run; repeatable")
    _of_tasks(gate, positional=False)
    gate.add_argument("--min-delta", type=float, default=0.0, help="least gain, from -1 to 1 (default: %(default)s)")
    gate.add_argument("--certain", action="store_true", help="the whole 95%% interval must reach it, with p < 0.05")
    gate.add_argument("--min-score", type=float, help="what the candidate must reach by itself")
    gate.add_argument("--output", choices=("text", "json"), default="text")
    for suite in (run_, import_, gate):
        suite.add_argument("--run", type=Path, metavar="FILE", help="an OpenAI eval's run: what is asked")
        suite.add_argument("--data", type=Path, metavar="FILE", help="an OpenAI eval's items, in place of the run's")


_MODEL = "`base`, an adapter (`name`, `name@3`, `name:canary`) or a program (`prompt:name`)"
_REPORT = "write report.md with pictures, results.json as lm-eval does, junit.xml and samples.jsonl"


def _of_tasks(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    if positional:
        parser.add_argument("task", nargs="+", metavar="TASK", help="a ready task's name, or a file")
    add_server_argument(parser)
    add_token_argument(parser)
    parser.add_argument("--shots", type=_counts, default=(), metavar="N,N", help="worked examples in the prompt")
    parser.add_argument("--reasoning", type=_reasonings, default=("direct",), help="direct, chain_of_thought or both")
    parser.add_argument("--votes", type=_votes, default=(1,), metavar="N,N", help="sampled paths that vote")
    parser.add_argument("--temperature", type=float, default=0.7, help="where paths vote (default: %(default)s)")
    parser.add_argument("--max-tokens", type=_count, help="of an answer, in place of the task's own")
    parser.add_argument("--limit", type=_count, help="only the first so many questions of each task")
    parser.add_argument(
        "--seed", type=int, default=0, help="of examples, sampling and intervals (default: %(default)s)"
    )
    parser.add_argument("--chat", action="store_true", help="put prompts as a chat's user turn")
    parser.add_argument(
        "--judge", metavar="NAME", help="the base or adapter that decides llm-rubric, label_model and score_model"
    )
    parser.add_argument(
        "--num-streams", type=_count, default=NUM_STREAMS, help="questions at once (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Carries one of ``SUITES`` out."""
    match args.suite:
        case "run":
            return _run(args)
        case "tasks":
            return _tasks(args)
        case "import":
            return _import(args)
    return _gate(args)


def _run(args: argparse.Namespace) -> int:
    from graft.training.evaluation.reports import folder, markdown, summary, text
    from graft.training.evaluation.running.run import evaluate

    tasks = _read(args.task, args)
    with _connected(args) as client:
        models = [_model(client, name) for name in dict.fromkeys(args.model or ["base"])]
        outcomes = evaluate(models, tasks, _plan(args), judge=_judge(client, args))
    if args.output == "json":
        print(json.dumps(summary.summary(outcomes), ensure_ascii=False))
    else:
        print(markdown.markdown(outcomes) if args.output == "markdown" else text.text(outcomes))
    if args.report is not None:  # last: a full disk costs no figures
        folder.write(outcomes, args.report, server=args.server, seconds_since_epoch=time.time())
    return 0


def _tasks(args: argparse.Namespace) -> int:
    from graft.training.evaluation.tasks import reading
    from graft.training.evaluation.tasks.answers import withheld

    found = [(name, withheld(reading.read(name))) for name in reading.ready()]
    rows: list[dict[str, Any]] = [
        {
            "task": name,
            "kind": task.kind,
            "num_questions": len(task.questions),
            "metric": task.main_metric.name,
            "fields": sorted(task.questions[0].variables),
        }
        for name, task in found
    ]
    if args.output == "json":
        print(json.dumps(rows))
        return 0
    print("A prompt program may read the fields that end each line.")
    for row in rows:
        head = f"{row['task']:<24}{row['kind']:<18}{row['num_questions']:>6} questions  {row['metric']:<13}"
        print(head + ", ".join(row["fields"]))
    return 0


def _import(args: argparse.Namespace) -> int:
    from graft.training.evaluation.importing import programs, reading
    from graft.training.evaluation.tasks import reading as own

    task = reading.import_file(args.file, run=args.run, data=args.data)
    path = args.to or Path(f"{''.join(one if one.isalnum() or one in '-_' else '-' for one in task.name)}{own.OWN}")
    if not path.name.endswith(own.OWN):
        path = path.with_name(path.name + own.OWN)
    own.write(task, path)
    written = programs.write(args.file, args.programs) if args.programs is not None else []
    kinds = sorted({check.kind.value for question in task.questions for check in question.checks})
    if args.output == "json":
        told = {"file": str(path), "num_questions": len(task.questions), "checks": kinds}
        print(json.dumps({**told, "programs": [str(one) for one in written]}))
    else:
        print(f"{path}: {len(task.questions)} questions, checked by {', '.join(kinds) or 'nothing'}")
        for one in written:
            print(f"{one}: a program; {programs.push_command(one)}")
    return 0


def _gate(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from graft.training.evaluation.gate import Rule, gate

    rule = Rule(min_delta=args.min_delta, is_certain=args.certain, min_score=args.min_score)
    tasks = _read(args.task, args)
    with _connected(args) as client:
        verdict = gate(
            _model(client, args.baseline),
            _model(client, args.candidate),
            tasks,
            _plan(args),
            rule,
            judge=_judge(client, args),
        )
    if args.output == "json":
        print(json.dumps({"passed": verdict.passed, **asdict(verdict)}, ensure_ascii=False))
    else:
        print(verdict.report())
    return 0 if verdict.passed else 1


def _read(named: list[str], args: argparse.Namespace) -> list["Task"]:
    from graft.training.errors import ConfigurationError
    from graft.training.evaluation.importing import reading

    tasks = [reading.read(name, run=args.run, data=args.data) for name in named]
    twice = {task.name for task in tasks if sum(one.name == task.name for one in tasks) > 1}
    if twice:
        raise ConfigurationError(f"two tasks are called {', '.join(sorted(twice))}: give each a name of its own.")
    return tasks


def _plan(args: argparse.Namespace) -> "Plan":
    from graft.training.evaluation.running.run import Plan

    return Plan(
        shots=args.shots,
        reasoning=args.reasoning,
        votes=args.votes,
        temperature=args.temperature,
        limit=args.limit,
        max_tokens=args.max_tokens,
        seed=args.seed,
        as_chat=args.chat,
        num_streams=args.num_streams,
    )


def _connected(args: argparse.Namespace) -> "Client":
    from graft.training.evaluation.asking.connection import connected

    return connected(args.server, token=args.token)


def _model(client: "Client", name: str) -> "Model":
    from graft.training.evaluation.asking.programs import model_of

    return model_of(client, name)


def _judge(client: "Client", args: argparse.Namespace) -> "Model | None":
    return _model(client, args.judge) if args.judge else None


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    if not all(part.isdigit() and int(part) <= 256 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0 to 256, such as 0,1,4")
    return tuple(sorted({int(part) for part in text.split(",")}))


def _votes(text: str) -> tuple[int, ...]:
    found = _counts(text)
    if found[0] < 1 or found[-1] > 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 1 to 64, such as 1,5,20")
    return found


def _reasonings(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split(",")))
    if not set(found) <= {"direct", "chain_of_thought"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither direct nor chain_of_thought, nor both with a comma")
    return found
