"""`graft adapters`: look at adapters, push versions, move aliases."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graft.cli.releases.verbs import add_release_verbs
from graft.cli.verbs import Shown, add_verb, run_verb

if TYPE_CHECKING:
    from graft.client import Client, Push
    from graft.v1 import adapter_pb2

HELP = "list, show, push, import, merge, alias, canary, roll back, pin, prefetch and delete adapters"
_WAIT_SECONDS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per verb."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_verb(verbs, "list", _list, "all adapters with their aliases")
    _add(add_verb(verbs, "show", _show, "an adapter, or one of its versions"), "adapter", "version?")
    push = add_verb(verbs, "push", _push, "upload a PEFT folder as a new version")
    push.add_argument("folder")
    _add_push_arguments(push)
    take = add_verb(verbs, "import", _import, "register a PEFT folder that lies on the server's disk")
    take.add_argument("path")
    _add_push_arguments(take)
    merge = add_verb(verbs, "merge", _merge, "add versions up into a new one, exactly")
    merge.add_argument(
        "parts",
        nargs="+",
        metavar="ADAPTER@VERSION:WEIGHT",
        help="such as fable@3:0.7; without a version that of stable, without a weight 1",
    )
    _add_new_version_arguments(merge)
    alias = add_verb(verbs, "alias", _alias, "point an alias to a version: the hot swap")
    _add(alias, "adapter", "alias", "version")
    alias.add_argument("--weight", type=int, metavar="PERCENT", help="share of the bare name's traffic")
    alias.add_argument("--etag", help="move it only while its etag is this one; empty: only where there is none yet")
    add_release_verbs(verbs)
    delete = add_verb(verbs, "delete", _delete, "delete an adapter, a version or an alias")
    delete.add_argument("adapter")
    delete.add_argument(
        "--yes", action="store_true", help="do not ask before an adapter's versions are deleted with it"
    )
    what = delete.add_mutually_exclusive_group()
    what.add_argument("--version")
    what.add_argument("--alias")
    add_verb(verbs, "gc", _collect, "delete files that no version has any more, as the server does every hour")
    add_verb(verbs, "residency", _residency, "which versions sit in engine slots")
    pin = add_verb(verbs, "pin", _pin, "keep a version in its slot")
    _add(pin, "adapter", "version")
    pin.add_argument("--off", action="store_true", help="let it go instead")
    prefetch = add_verb(verbs, "prefetch", _prefetch, "say that a version may be asked for soon")
    _add(prefetch, "adapter", "version")


run = run_verb


def _add(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(name.rstrip("?"), nargs="?" if name.endswith("?") else None)


def _add_push_arguments(parser: argparse.ArgumentParser) -> None:
    _add_new_version_arguments(parser)
    parser.add_argument("--allow-noop", action="store_true", help="an adapter that changes nothing is meant")


def _add_new_version_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the adapter's name")
    parser.add_argument("--alias", help="point this alias to the new version, e.g. stable")
    parser.add_argument(
        "--allow-other-quantization", action="store_true", help="serving on another form than trained on is meant"
    )


def _list(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.terminal import table

    adapters = client.adapters()
    if not adapters:
        return adapters, "no adapters yet: graft adapters push FOLDER --name NAME --alias stable"
    rows = [
        (a.adapter, a.num_versions, ", ".join(f"{alias.alias}={alias.version_number}" for alias in a.aliases))
        for a in adapters
    ]
    return adapters, table(("ADAPTER", "VERSIONS", "ALIASES"), rows)


def _show(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.terminal import as_json, short, size, table
    from graft.v1 import common_pb2

    if args.version:
        details = client.get_version(args.adapter, args.version)
        value = {"version": details.version, "records": list(details.records)}
        return value, as_json(value)
    adapter, versions = client.get_adapter(args.adapter), client.versions(args.adapter)
    aliases: dict[int, str] = {}
    for alias in adapter.aliases:
        aliases[alias.version_number] = " ".join([aliases.get(alias.version_number, ""), alias.alias]).strip()
    rows = [
        (v.number, short(v.digest), _rank(v), common_pb2.ServingForm.Name(v.form).removeprefix("SERVING_FORM_").lower(),
         size(v.size_bytes), v.create_time.ToJsonString(), aliases.get(v.number, ""))
        for v in versions
    ]  # fmt: skip
    header = ("VERSION", "DIGEST", "RANK", "FORM", "SIZE", "CREATED", "ALIASES")
    return {"adapter": adapter, "versions": versions}, table(header, rows)


def _rank(version: adapter_pb2.AdapterVersion) -> str:
    """A LoRA's, with the outputs of its head where it brings one; of a soft prompt, its size."""
    head = f", head of {version.num_labels}" if version.num_labels else ""
    return f"{version.rank}{head}" if version.rank else f"{version.num_virtual_tokens} virtual"


def _push(client: Client, args: argparse.Namespace) -> Shown:
    return _sent(client.push_adapter, args.folder, args)


def _import(client: Client, args: argparse.Namespace) -> Shown:
    return _sent(client.import_adapter, args.path, args)


def _sent(send: Callable[..., Push], folder: str, args: argparse.Namespace) -> Shown:
    with _patience(args), _named(folder):
        push = send(
            folder,
            name=args.name,
            alias=args.alias,
            allow_noop=args.allow_noop,
            allow_other_quantization=args.allow_other_quantization,
        )
    return _new_version(push, args)


def _merge(client: Client, args: argparse.Namespace) -> Shown:
    parts = [_part(text) for text in args.parts]
    with _patience(args):
        push = client.merge_adapters(
            parts, name=args.name, alias=args.alias, allow_other_quantization=args.allow_other_quantization
        )
    return _new_version(push, args)


def _part(text: str) -> tuple[str, str, float]:
    """What `fable@3:0.7` names: the adapter, its version or alias, and the weight."""
    from graft.cli.failure import UserError

    reference, weight = text, 1.0
    head, colon, tail = text.rpartition(":")
    with contextlib.suppress(ValueError):
        reference, weight = (head, float(tail)) if colon else (text, 1.0)
    adapter, sign, version = reference.partition("@" if "@" in reference else ":")
    if not adapter or (sign and not version):
        raise UserError(f"{text!r} names no version: write ADAPTER@VERSION:WEIGHT, such as fable@3:0.7")
    return adapter, version or "stable", weight


def _new_version(push: Push, args: argparse.Namespace) -> Shown:
    text = f"{args.name}@{push.version.number} {push.version.digest}"
    if push.alias:
        text += f"\n{args.name}:{args.alias} now answers with it{_load_time(push.load_seconds)}"
    for notice in push.notices:
        print(f"note: {notice}", file=sys.stderr)
    value = {"version": push.version, "alias": push.alias, "load_seconds": push.load_seconds}
    return value | {"notices": list(push.notices)}, text


@contextmanager
def _named(folder: str) -> Iterator[None]:
    """A server that refuses what another command would make of the folder does not know where that lies."""
    from graft.client import GraftClientError

    try:
        yield
    except GraftClientError as error:
        error.fill_in("graft compile FOLDER", f"graft compile {shlex.quote(folder)}")
        raise


@contextmanager
def _patience(args: argparse.Namespace) -> Iterator[None]:
    """Say what takes so long, once, where somebody waits."""
    waits_for = "the server checks the adapter and loads it"
    if args.alias:
        waits_for += ", and compares what it says; where its trainer recorded nothing, peft is started for that first"
    said = threading.Timer(_WAIT_SECONDS, lambda: print(f"still at it: {waits_for} …", file=sys.stderr, flush=True))
    said.daemon = True
    said.start()
    try:
        yield
    finally:
        said.cancel()


def _alias(client: Client, args: argparse.Namespace) -> Shown:
    moved = client.set_alias(args.adapter, args.alias, args.version, weight_percent=args.weight, etag=args.etag)
    seconds = moved.load_time.ToTimedelta().total_seconds() if moved.HasField("load_time") else None
    text = f"{args.adapter}:{args.alias} is version {moved.alias.version_number}{_load_time(seconds)}"
    return moved, text


def _load_time(seconds: float | None) -> str:
    return "" if seconds is None else f" (loaded in {seconds * 1000:.0f} ms)"


def _delete(client: Client, args: argparse.Namespace) -> Shown:
    if args.version:
        client.delete_version(args.adapter, args.version)
        what = f"{args.adapter}@{args.version}"
    elif args.alias:
        client.delete_alias(args.adapter, args.alias)
        what = f"{args.adapter}:{args.alias}"
    else:
        adapter = client.get_adapter(args.adapter)
        _ask(_contents(adapter), args)
        client.delete_adapter(args.adapter, force=True)
        what = f"{args.adapter}{_contents(adapter)}"
    return {"deleted": what}, f"deleted {what}"


def _contents(adapter: adapter_pb2.Adapter) -> str:
    """What goes with an adapter: ` with its 2 versions and its alias stable`; empty for one that has nothing."""
    num, names = adapter.num_versions, ", ".join(alias.alias for alias in adapter.aliases)
    if not num:
        return ""
    versions = "its version" if num == 1 else f"its {num} versions"
    aliases = f" and its alias{'es' if len(adapter.aliases) > 1 else ''} {names}" if names else ""
    return f" with {versions}{aliases}"


def _ask(contents: str, args: argparse.Namespace) -> None:
    """Raises `UserError` where the answer is no, or nobody can be asked."""
    from graft.cli.failure import UserError

    if not contents or args.yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{args.adapter} would be deleted{contents}: say --yes if that is meant")
    if input(f"delete {args.adapter}{contents}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was deleted")


def _collect(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.terminal import size

    done = client.collect_files()
    what = "1 file or folder" if done.num_deleted == 1 else f"{done.num_deleted} files and folders"
    text = f"deleted {what}, {size(done.freed_bytes)}; what was stored within the last hour stays"
    return done, text


def _residency(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.terminal import short, table
    from graft.v1 import adapter_pb2

    residency = client.residency()
    rows = [
        (
            short(v.digest),
            adapter_pb2.ResidencyState.Name(v.state).removeprefix("RESIDENCY_STATE_").lower(),
            v.num_leases,
            "yes" if v.pinned else "",
        )
        for v in residency.versions
    ]
    text = f"{len(rows)} of {residency.num_slots} slots in use"
    return residency, text if not rows else f"{table(('DIGEST', 'STATE', 'LEASES', 'PINNED'), rows)}\n{text}"


def _pin(client: Client, args: argparse.Namespace) -> Shown:
    resident = client.pin(args.adapter, args.version, pinned=not args.off)
    return resident, f"{args.adapter}@{args.version} is {'pinned' if resident.pinned else 'no longer pinned'}"


def _prefetch(client: Client, args: argparse.Namespace) -> Shown:
    resident = client.prefetch(args.adapter, args.version)
    what = "is ready" if resident else "is loaded once none in use has to leave for it"
    return {"resident": resident}, f"{args.adapter}@{args.version} {what}"
