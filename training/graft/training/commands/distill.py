"""``graft distill``: lets a served base or adapter write the answers that another one learns from."""

import argparse
from pathlib import Path

from graft.training.commands.arguments.server import add_server_argument, add_token_argument
from graft.training.settings.limits import count_of

HELP = "write rows whose answers a served model gives, for another to learn from"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="rows with prompt or messages; their answers are not read",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="rows to write (.jsonl)")
    add_server_argument(parser)
    add_token_argument(parser)
    parser.add_argument("--model", default="base", help="an adapter of the server, or base (default: %(default)s)")
    parser.add_argument(
        "--max-tokens", type=count_of("tokens"), default=256, help="of an answer (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--answers", type=count_of("answers"), default=1, help="to each prompt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first prompt's answers (default: %(default)s)")
    parser.add_argument(
        "--top-logprobs",
        type=count_of("tokens"),
        metavar="K",
        help="write the K likeliest of each token, too, beside the rows",
    )


def run(args: argparse.Namespace) -> int:
    from graft.training.distill import told as pages
    from graft.training.distill.prompts import read_questions
    from graft.training.distill.sequences import Asking, distill, logprobs_of
    from graft.training.errors import ConfigurationError
    from graft.training.evaluation.asking.connection import connected
    from graft.training.report.report import leave
    from graft.training.runtime.disk import unmakeable

    problems, page = [], pages.page_of(args.output)
    if not 0 <= args.temperature < float("inf"):
        problems.append(f"--temperature {args.temperature}: must be 0 or more.")
    if args.answers > 1 and args.temperature == 0:
        problems.append(f"--answers {args.answers}: greedy answers are all the same; add --temperature 0.7.")
    if args.output.suffix != ".jsonl" or args.output.exists() or not args.output.absolute().parent.is_dir():
        problems.append(
            f"--output {args.output}: name a file that ends in .jsonl and is not there yet, in a folder that is."
        )
    elif others := [str(one) for one in (page, logprobs_of(args.output)) if one.exists()]:
        problems.append(
            f"--output {args.output}: beside it lies {' and '.join(others)}, of other rows: remove it, or take another."
        )
    elif problem := unmakeable(args.output, "--output"):
        problems.append(problem)
    if problems:
        raise ConfigurationError(" ".join(problems))
    questions = read_questions(args.data)
    asking = Asking(
        client=connected(args.server, token=args.token),
        model="" if args.model == "base" else args.model,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        num_answers=args.answers,
        seed=args.seed,
        top_logprobs=args.top_logprobs,
    )
    told = distill(questions, asking, args.output)
    beside = "" if args.top_logprobs is None else f", the likeliest tokens in {logprobs_of(args.output)}"
    leave(page, lambda: pages.write(told, asking, data=args.data, output=args.output))
    print(f"{told.num_rows} rows of {args.model} in {args.output}{beside}, all about them in {page}")
    if told.num_refused or told.num_cut or told.num_empty:
        print(
            f"left out: {told.num_refused} prompts that the server did not take, {told.num_cut} answers that had not "
            f"ended after {args.max_tokens} tokens, {told.num_empty} empty ones"
        )
    return 0
