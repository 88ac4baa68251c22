"""`graft prompts`: push programs, look at their versions, compare them, move labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graft.cli.verbs import Shown, add_verb, run_verb

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import prompt_pb2

HELP = "push, list, show, preview, run, test, diff, label and delete prompt programs"


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per verb."""
    from graft.cli.prompt_arguments import add_prompt_arguments
    from graft.cli.prompt_runs import run_prompt, test_prompt
    from graft.cli.sampling import add_sampling_arguments

    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    push = add_verb(verbs, "push", _push, "register a program as a new version")
    push.add_argument("file", help="a JSON file, or - for standard input")
    push.add_argument("--name", required=True, help="the prompt's name, in folders by /")
    push.add_argument("--label", action="append", default=[], help="points at it then, e.g. production; repeatable")
    push.add_argument("--tag", action="append", default=[], help="repeatable")
    push.add_argument("--message", default="", help="what changed, and why")
    listed = add_verb(verbs, "list", _list, "all prompts with their labels")
    listed.add_argument("prefix", nargs="?", default="", help="only names that begin so")
    listed.add_argument("--label", default="", help="only those that have it")
    listed.add_argument("--tag", default="", help="only those whose latest version has it")
    show = add_verb(verbs, "show", _show, "a prompt's versions, or one of them with its program")
    show.add_argument("prompt", help="NAME, NAME:LABEL or NAME@VERSION")
    show.add_argument("--program", action="store_true", help="print the program alone: a file that can be pushed again")
    preview = add_verb(verbs, "preview", _preview, "the prompt as the model would read it, with token counts")
    add_prompt_arguments(preview)
    ask = add_verb(verbs, "run", run_prompt, "run a program; the rationale is told on standard error")
    add_prompt_arguments(ask)
    add_sampling_arguments(ask)
    ask.add_argument("--withhold-rationale", action="store_true", help="do not tell what led to the answer")
    test = add_verb(verbs, "test", test_prompt, "run the tests that a program brings")
    test.add_argument("prompt", help="NAME, NAME:LABEL or NAME@VERSION")
    test.add_argument("--model", default="", help="in place of the program's own")
    diff = add_verb(verbs, "diff", _diff, "what differs between two versions")
    diff.add_argument("first", help="NAME:LABEL or NAME@VERSION")
    diff.add_argument("second", help="the same; or :LABEL or @VERSION of the same prompt")
    label = add_verb(verbs, "label", _label, "point a label at a version")
    for name in ("name", "label", "version"):
        label.add_argument(name)
    label.add_argument("--etag", help="move it only while its etag is this one; empty: only where there is none yet")
    delete = add_verb(verbs, "delete", _delete, "delete a prompt, a version or a label")
    delete.add_argument("name")
    delete.add_argument("--yes", action="store_true", help="do not ask before a prompt's versions are deleted with it")
    what = delete.add_mutually_exclusive_group()
    what.add_argument("--version")
    what.add_argument("--label")


run = run_verb


def _push(client: Client, args: argparse.Namespace) -> Shown:
    version = client.push_prompt(
        args.name, _text(args.file), labels=args.label, tags=args.tag, commit_message=args.message
    )
    for notice in version.notices:
        print(f"note: {notice}", file=sys.stderr)
    text = f"{args.name}@{version.number} {version.digest}"
    if args.label:
        text += f"\n{', '.join(f'{args.name}:{label}' for label in args.label)} now means it"
    return version, text


def _text(file: str) -> str:
    from graft.cli.failure import UserError

    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 at byte {error.start}") from None


def _list(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.terminal import table

    prompts = client.prompts(prefix=args.prefix, label=args.label, tag=args.tag)
    rows = [
        (one.prompt, one.num_versions, " ".join(f"{label.label}={label.version_number}" for label in one.labels),
         " ".join(one.tags), one.update_time.ToJsonString())
        for one in prompts
    ]  # fmt: skip
    return prompts, table(("PROMPT", "VERSIONS", "LABELS", "TAGS", "CHANGED"), rows) if rows else "no prompts"


def _show(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.program_text import pretty
    from graft.cli.prompt_arguments import split_reference
    from graft.cli.terminal import short, table

    name, selector = split_reference(args.prompt)
    if args.program or selector:
        version = client.get_prompt(name, selector)
        program = pretty(version.program)
        return version, program if args.program else f"{_head(version)}\n\n{program}"
    versions = client.prompt_versions(name)
    rows = [
        (one.number, short(one.digest), one.create_time.ToJsonString(), " ".join(one.labels), " ".join(one.tags),
         one.commit_message.split("\n")[0])
        for one in versions
    ]  # fmt: skip
    return versions, table(("VERSION", "DIGEST", "CREATED", "LABELS", "TAGS", "MESSAGE"), rows)


def _head(version: prompt_pb2.PromptVersion) -> str:
    lines = [f"{version.prompt}@{version.number} {version.digest} {version.create_time.ToJsonString()}"]
    for what, texts in (("labels", version.labels), ("tags", version.tags)):
        if texts:
            lines.append(f"{what}: {', '.join(texts)}")
    if version.commit_message:
        lines.append(version.commit_message)
    return "\n".join([*lines, *(f"note: {notice}" for notice in version.notices)])


def _preview(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.prompt_arguments import documents_of, program_of, variables_of

    shown = client.preview_prompt(
        args.prompt, variables_of(args), program=program_of(args), documents=documents_of(args)
    )
    return shown, _preview_text(shown)


def _preview_text(shown: prompt_pb2.PreviewPromptResponse) -> str:
    """Each part behind its kind and its tokens, and what is to be known of all."""
    parts = [f"── {one.kind} · {one.num_tokens} tokens\n{one.text}" for one in shown.parts]
    facts = [f"── {shown.num_tokens} of {shown.max_model_tokens} tokens"]
    for what, indices in (("shown", shown.shown_demonstrations), ("left out", shown.dropped_demonstrations)):
        if indices:
            facts.append(f"demonstrations {what}: {' '.join(map(str, indices))}")
    if shown.variables:
        facts.append(f"variables: {' '.join(shown.variables)}")
    return "\n".join([*parts, *facts, *(f"note: {notice}" for notice in shown.notices)])


def _diff(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.program_text import diff, painted
    from graft.cli.prompt_arguments import split_reference

    name, selector = split_reference(args.first)
    other, other_selector = split_reference(args.second)
    first, second = client.get_prompt(name, selector), client.get_prompt(other or name, other_selector)
    names = [f"{one.prompt}@{one.number}" for one in (first, second)]
    lines = diff(first.program, second.program, *names)
    value = {"first": names[0], "second": names[1], "diff": "\n".join(lines)}
    return value, "\n".join(map(painted, lines)) if lines else f"{names[0]} and {names[1]} hold the same program"


def _label(client: Client, args: argparse.Namespace) -> Shown:
    moved = client.set_prompt_label(args.name, args.label, args.version, etag=args.etag)
    return moved, f"{args.name}:{args.label} is version {moved.version_number}"


def _delete(client: Client, args: argparse.Namespace) -> Shown:
    if args.version:
        client.delete_prompt_version(args.name, args.version)
        what = f"{args.name}@{args.version}"
    elif args.label:
        client.delete_prompt_label(args.name, args.label)
        what = f"{args.name}:{args.label}"
    else:
        num = len(client.prompt_versions(args.name))
        what = f"{args.name} with its {f'{num} versions' if num > 1 else 'version'}"
        _ask(what, args)
        client.delete_prompt(args.name, force=True)
    return {"deleted": what}, f"deleted {what}"


def _ask(what: str, args: argparse.Namespace) -> None:
    """Raises `UserError` where the answer is no, or nobody can be asked."""
    from graft.cli.failure import UserError

    if args.yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{what} would be deleted: say --yes if that is meant")
    if input(f"delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was deleted")
