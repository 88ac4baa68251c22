"""``graft evaluate``: measures bases, adapters and prompt programs, through a running server or in this process."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.commands import evaluate_tasks
from graft.training.commands.arguments.base import BASE
from graft.training.commands.arguments.server import add_server_argument, add_token_argument
from graft.training.runtime.startup import prepare

if TYPE_CHECKING:
    from graft.training.evaluation.answerer import Answerer

HELP = "measure bases, adapters and prompt programs on tasks"


def configure(parser: argparse.ArgumentParser) -> None:
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    evaluate_tasks.configure(suites)
    rootstock = suites.add_parser("rootstock", help="worked steps against direct answers, examples against none")
    rootstock.add_argument("--trials", type=int, default=200, help="questions per setting (default: %(default)s)")
    rootstock.add_argument("--seed", type=int, default=0, help="which held-out questions (default: %(default)s)")
    sst2 = suites.add_parser("sst2", help="accuracy on sentences labelled positive or negative")
    sst2.add_argument("--data", type=Path, required=True, help="file of text<TAB>label lines, label 0 or 1")
    sst2.add_argument("--limit", type=int, help="only the first so many lines")
    heads = suites.add_parser("heads", help="a model or an adapter that graft finetune --task made, on a file of rows")
    heads.add_argument("--model", type=Path, required=True, help="its folder, model/ or adapter/")
    heads.add_argument("--data", type=Path, required=True, help="a file of rows like the training's")
    heads.add_argument("--base", help=f"of an adapter: {BASE}")
    heads.add_argument("--output", choices=("text", "json"), default="text")
    for suite in (rootstock, sst2):
        where = suite.add_mutually_exclusive_group()
        add_server_argument(where)
        add_token_argument(suite)
        where.add_argument("--local", metavar="BASE", help=f"load this base in the process instead: {BASE}")
        suite.add_argument(
            "--model",
            action="append",
            help="model of the server, or adapter folder with --local; `base` is the base; repeatable",
        )
        suite.add_argument(
            "--form",
            choices=("nf4", "llm-int8", "int8", "int4", "bf16", "fp32"),
            help="with --local (default: the folder's own; nf4 where its weights are plain)",
        )
        suite.add_argument("--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    if args.suite in evaluate_tasks.SUITES:
        return evaluate_tasks.run(args)
    prepare()
    if args.suite == "heads":
        return _heads(args)
    for model in args.model or ["base"]:
        answerer = _answerer(args, "" if model == "base" else model)
        if args.suite == "rootstock":
            _rootstock(args, answerer)
        else:
            _sst2(args, answerer, model)
    return 0


def _heads(args: argparse.Namespace) -> int:
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import Hub
    from graft.training.tasks.evaluation import Trained
    from graft.training.tasks.measured import told

    base = None if args.base is None else Base.from_folder(find_base(args.base, hub=Hub()))
    found = Trained.of(args.model, base).measure(args.data)
    print(json.dumps(found) if args.output == "json" else told(found))
    return 0


def _answerer(args: argparse.Namespace, model: str) -> "Answerer":
    if args.local is None:
        from graft.training.evaluation.asking.connection import connected
        from graft.training.evaluation.remote import RemoteAnswerer

        return RemoteAnswerer(connected(args.server, token=args.token), model=model)
    from graft.adapters.base import files as base_files
    from graft.adapters.base.base import find_base
    from graft.adapters.base.hub import Hub
    from graft.adapters.form import ServingForm
    from graft.training.evaluation.local import LocalAnswerer

    folder = find_base(args.local, hub=Hub())
    form = ServingForm(args.form) if args.form else base_files.read(folder).form or ServingForm.NF4
    return LocalAnswerer.load(folder, form, Path(model) if model else None)


def _rootstock(args: argparse.Namespace, answerer: "Answerer") -> None:
    from graft.training.rootstock import evaluation as rootstock

    scores = rootstock.evaluate(answerer, num_trials=args.trials, seed=args.seed)
    print(json.dumps([asdict(score) for score in scores]) if args.output == "json" else rootstock.table(scores))


def _sst2(args: argparse.Namespace, answerer: "Answerer", model: str) -> None:
    from graft.training.evaluation import classification

    examples = classification.read_examples(args.data, args.limit)
    accuracy = classification.evaluate(answerer, examples, model=model)
    chosen = ", ".join(f"{count} {label}" for label, count in accuracy.predicted.items())
    told = f"{model:<24}{accuracy.percent:>6.1f}%  of {accuracy.num_examples} right (said {chosen})"
    print(json.dumps(asdict(accuracy)) if args.output == "json" else told)
