"""Programs run on the command line: an answer as it grows, and the tests that a program brings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graft.cli.verbs import Shown

if TYPE_CHECKING:
    from graft.client import Client, PromptRun


def run_prompt(client: Client, args: argparse.Namespace) -> Shown:
    """The answer on standard output; what led to it, and who gave it, on standard error as they come."""
    from graft.cli.prompt_arguments import documents_of, program_of, variables_of
    from graft.cli.sampling import sampling_options
    from graft.cli.terminal import paint
    from graft.client import PromptChunk

    stream = client.stream_prompt(
        args.prompt,
        variables_of(args),
        program=program_of(args),
        documents=documents_of(args),
        model=args.model,
        withhold_rationale=args.withhold_rationale,
        **sampling_options(args),
    )
    reasons = False
    for event in stream:
        if not isinstance(event, PromptChunk):
            if args.output == "json":
                return _object(event), ""
            print(flush=True)
            _say_facts(event)
            return _object(event), ""
        if args.output != "json":
            if event.answer and reasons:
                print(file=sys.stderr, flush=True)
            reasons = bool(event.rationale) or (reasons and not event.answer)
            print(paint(event.rationale, "dim", stream=sys.stderr), end="", file=sys.stderr, flush=True)
            print(event.answer, end="", flush=True)
    raise AssertionError("a stream ends in its run, or raises")


def _say_facts(run: PromptRun) -> None:
    from graft.cli.sampling import answered_by
    from graft.cli.terminal import paint

    result, lines = run.result, []
    for vote in result.votes:
        lines.append(f"vote: {vote.num_paths} × {vote.answer}")
    for choice in result.choices:
        lines.append(f"choice: {choice.probability:6.1%} {choice.choice}")
    for one in result.citations:
        found = f"{one.document}, overlap {one.overlap:.0%}" if one.exists else "no such passage"
        lines.append(f"citation: [{one.marker}] {found}")
    lines += [f"unsupported: {sentence}" for sentence in result.unsupported_sentences]
    if run.dropped_demonstrations:
        lines.append(f"demonstrations left out: {' '.join(map(str, run.dropped_demonstrations))}")
    lines += [f"note: {notice}" for notice in result.notices]
    program = f"{run.program.prompt}@{run.program.version_number}" if run.program.prompt else "the file's program"
    tokens = f"{result.answer_tokens} tokens" + (
        f" after {result.reasoning_tokens} of reasoning" if result.reasoning_tokens else ""
    )
    lines.append(f"— {program}, {tokens}, by {answered_by(run.answerer)}")
    print("\n".join(paint(line, "dim", stream=sys.stderr) for line in lines), file=sys.stderr)


def _object(run: PromptRun) -> dict[str, object]:
    return {"result": run.result, "program": run.program, "answerer": run.answerer, "usage": run.usage}


def test_prompt(client: Client, args: argparse.Namespace) -> Shown:
    """The program's own tests, one run each. Raises `CommandFailed` where one does not hold."""
    from graft.cli.failure import CommandFailed, UserError
    from graft.cli.prompt_arguments import split_reference
    from graft.cli.terminal import as_json

    reference = args.prompt
    name, selector = split_reference(reference)
    program = json.loads(client.get_prompt(name, selector).program)
    tests = program.get("tests") or []
    if not tests:
        remedy = "write `tests`, each with variables and equals, contains or matches"
        raise UserError(f"{reference} brings no tests: {remedy}")
    lines, rows = [], []
    for number, test in enumerate(tests, start=1):
        answer, problems = _tested(client, args, test)
        rows.append({"test": number, "passed": not problems, "answer": answer, "problems": problems})
        lines.append(f"{'✓' if not problems else '✗'} {number}: {'; '.join(problems) or answer}")
    failed = sum(not row["passed"] for row in rows)
    text = "\n".join([*lines, f"{len(rows) - failed} of {len(rows)} tests hold"])
    if failed:
        print(as_json(rows) if args.output == "json" else text)
        raise CommandFailed(f"{failed} of {len(rows)} tests of {reference} do not hold")
    return rows, text


def _tested(client: Client, args: argparse.Namespace, test: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The answer and what is wrong with it. Words that hold no answer fail the test, not the command."""
    from graft.client import NoAnswer

    try:
        answer = client.run_prompt(args.prompt, test["variables"], model=args.model).answer
    except NoAnswer as error:
        return "", [f"no answer: {error}"]
    return answer, list(_problems(answer, test))


def _problems(answer: str, test: Mapping[str, Any]) -> list[str]:
    checks: dict[str, Callable[[str], bool]] = {
        "equals": lambda wanted: answer == wanted,
        "contains": lambda wanted: wanted in answer,
        "matches": lambda wanted: _matches(wanted, answer),
    }
    return [
        f"{answer!r}: {how} {test[how]!r} does not hold"
        for how, holds in checks.items()
        if test.get(how) is not None and not holds(test[how])
    ]


def _matches(pattern: str, answer: str) -> bool:
    try:
        import re2 as re
    except ImportError:  # the client alone is installed: the caller's own patterns in the caller's own process
        import re
    return bool(re.search(pattern, answer))
