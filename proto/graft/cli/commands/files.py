"""`graft files`: what jobs learn from, and what they leave."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from graft.cli.verbs import Shown, add_verb, run_verb

if TYPE_CHECKING:
    from graft.client import Client

HELP = "upload, list, show, download and delete files"
_EXAMPLES = """\
examples:
  graft files upload rows.jsonl
  graft files upload rows.jsonl --expires-after 86400
  graft files download file-… curves.tar
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per verb."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    upload = add_verb(verbs, "upload", _upload, "upload files; prints the id of each")
    upload.add_argument("paths", nargs="+", metavar="PATH")
    upload.add_argument("--purpose", default="fine-tune", help="as in OpenAI's API (default: fine-tune)")
    upload.add_argument("--expires-after", type=float, metavar="SECONDS", help="deleted then, unless a job uses it")
    listed = add_verb(verbs, "list", _list, "files, newest first")
    listed.add_argument("--purpose", default="", help="only those with it")
    listed.add_argument("--limit", type=int, default=100, help="how many at most (default: 100)")
    add_verb(verbs, "show", _show, "all that is known of a file").add_argument("file", help="its id")
    download = add_verb(verbs, "download", _download, "write a file to the disk")
    download.add_argument("file", help="its id")
    download.add_argument("path", nargs="?", help="where to; an existing folder too (default: under its own name here)")
    download.add_argument("--overwrite", action="store_true", help="a file that is there already is replaced")
    delete = add_verb(verbs, "delete", _delete, "delete files that no job uses")
    delete.add_argument("files", nargs="+", metavar="FILE", help="their ids")
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_const", const="json", dest="output", help="the same as --output json")


def run(args: argparse.Namespace) -> int:
    """Call the server and print."""
    from graft.cli.failure import UserError
    from graft.client import NotFound

    try:
        return run_verb(args)
    except NotFound as error:
        raise UserError(f"{error} (graft files list shows what is there)") from None


def _upload(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError

    if missing := [path for path in args.paths if not Path(path).is_file()]:
        raise UserError(f"there is no file {', '.join(missing)}: nothing was uploaded")
    found = [
        client.upload_file(path, purpose=args.purpose, expires_after_seconds=args.expires_after) for path in args.paths
    ]
    return found, "\n".join(f"{file.id} {path}" for file, path in zip(found, args.paths, strict=True))


def _list(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError
    from graft.cli.fine_tuning.texts import files_table

    try:
        found = client.files(purpose=args.purpose, limit=args.limit)
    except ValueError as error:
        if hasattr(error, "violations"):
            raise
        raise UserError(str(error)) from None
    if not found:
        return found, f"no files{f' for {args.purpose}' if args.purpose else ' yet: graft files upload ROWS.jsonl'}"
    return found, files_table(found)


def _show(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.fine_tuning.texts import file_text

    file = client.get_file(args.file)
    return file, file_text(file)


def _download(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError

    file = client.get_file(args.file)
    path = Path(args.path or ".")
    if path.is_dir():
        path /= Path(file.filename).name
    if path.exists() and not args.overwrite:
        raise UserError(f"{path} is there already: say --overwrite, or another path")
    client.download_file(file.id, path)
    return {"file": file, "path": str(path)}, f"{path}: {file.size_bytes:,} bytes, {file.digest}"


def _delete(client: Client, args: argparse.Namespace) -> Shown:
    from graft.cli.failure import UserError
    from graft.client import NotFound

    for file in args.files:
        try:
            client.get_file(file)
        except NotFound as error:
            raise UserError(f"{error}: nothing was deleted (graft files list shows what is there)") from None
    for file in args.files:
        client.delete_file(file)
    return {"deleted": args.files}, f"deleted {', '.join(args.files)}"
