"""The images' entry point: the folder of caches has what the image brings, whatever volume lies there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.containerfile import DEPLOY, variables

ENTRYPOINT = DEPLOY / "entrypoint"
LAUNCHER, ANSWERS = "triton/2f9c/cuda_utils.so", "vllm/modelinfos/llama.json"
BROUGHT = {LAUNCHER: b"\x7fELF of this image", ANSWERS: b'{"hash": "of this vLLM"}'}
_NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass(frozen=True, kw_only=True)
class Image:
    """Its entry point with the files beside it, which the container's user may only read; a folder for caches where it
    may write, another where it may not, and one for temporary files.
    """

    entrypoint: Path
    caches: Path
    read_only: Path
    temporary: Path

    def run(self, caches: Path, *command: str, **variable: str) -> subprocess.CompletedProcess[str]:
        """Begun as a user without rights, with the variables that the Containerfile sets, and with others."""
        environment = {
            name: value.replace("/var/cache/graft", str(caches)) for name, value in variables("runtime").items()
        }
        environment |= {"PATH": "/usr/bin:/bin", "TMPDIR": str(self.temporary), **variable}
        return subprocess.run(
            [str(self.entrypoint), *command],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **_NOBODY,
        )


@pytest.fixture
def image() -> Iterator[Image]:
    # TMPDIR may lie in a folder that only its owner enters.
    with tempfile.TemporaryDirectory(prefix="image-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        for folder in ("opt", "caches", "read-only", "temporary"):
            (root / folder).mkdir()
        shutil.copy(ENTRYPOINT, root / "opt")
        write(root / "opt/cache-seed", BROUGHT)
        if _NOBODY:
            os.chown(root / "caches", _NOBODY["user"], _NOBODY["group"])
            os.chown(root / "temporary", _NOBODY["user"], _NOBODY["group"])
        (root / "read-only").chmod(0o555)
        yield Image(
            entrypoint=root / "opt/entrypoint",
            caches=root / "caches",
            read_only=root / "read-only",
            temporary=root / "temporary",
        )


def write(folder: Path, files: dict[str, bytes]) -> None:
    """As the user whose folder it is."""
    owner = folder.stat() if folder.exists() else folder.parent.stat()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        for one in (path, *(each for each in path.parents if folder in (each, *each.parents))):
            os.chown(one, owner.st_uid, owner.st_gid)


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_volume_gets_what_the_image_brings(image: Image) -> None:
    done = image.run(image.caches, "cat", str(image.caches / LAUNCHER))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == BROUGHT[LAUNCHER]
    assert held(image.caches) == BROUGHT


def test_a_volume_of_an_older_image_gets_the_new_files_and_keeps_its_own(image: Image) -> None:
    own = {"triton/0000/cuda_utils.so": b"of another Triton", "huggingface/hub/model": b"gigabytes"}
    write(image.caches, {LAUNCHER: b"\x7fELF for another Python", **own})
    in_use = (image.caches / LAUNCHER).open("rb")
    done = image.run(image.caches, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert held(image.caches) == {**own, **BROUGHT}
    with in_use:
        assert in_use.read() == b"\x7fELF for another Python", "a process that had the old file mapped now has another"


def test_files_that_are_there_are_left_alone(image: Image) -> None:
    image.run(image.caches, "true")
    before = {name: (image.caches / name).stat().st_ino for name in BROUGHT}
    image.run(image.caches, "true")
    assert {name: (image.caches / name).stat().st_ino for name in BROUGHT} == before


@pytest.mark.parametrize("folder", ["read-only", "read-only/none"])
def test_without_a_volume_caches_are_temporary_and_it_is_said(image: Image, folder: str) -> None:
    caches = image.read_only.parent / folder
    done = image.run(caches, "env")
    assert done.returncode == 0
    temporary = image.temporary / "graft-cache"
    here = dict(line.split("=", 1) for line in done.stdout.splitlines())
    for name, value in variables("runtime").items():
        assert "/var/cache/graft" not in value or here[name] == value.replace("/var/cache/graft", str(temporary))
    assert held(temporary) == BROUGHT
    (said,) = done.stderr.splitlines()
    assert str(caches) in said and str(temporary) in said and "Mount a volume" in said


def test_what_cannot_be_replaced_is_said_and_the_command_runs(image: Image) -> None:
    """A folder of another user's in the volume, say."""
    write(image.caches, {LAUNCHER: b"old"})
    folder = (image.caches / LAUNCHER).parent
    if _NOBODY:
        os.chown(folder, 0, 0)
    folder.chmod(0o555)
    done = image.run(image.caches, "echo", "here")
    folder.chmod(0o755)
    assert (done.returncode, done.stdout) == (0, "here\n")
    assert f"entrypoint: {image.caches} lacks files of the image" in done.stderr
    assert held(image.caches) == {**BROUGHT, LAUNCHER: b"old"}


def test_a_folder_in_a_file_s_place_is_said_and_stays_as_it_is(image: Image) -> None:
    write(image.caches, {f"{LAUNCHER}/inside": b"a user's"})
    done = image.run(image.caches, "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")
    folder, rest = done.stderr.splitlines()
    assert f"{LAUNCHER} is a folder" in folder and "move it away" in folder
    assert f"{image.caches} lacks files of the image" in rest
    assert held(image.caches) == {f"{LAUNCHER}/inside": b"a user's", ANSWERS: BROUGHT[ANSWERS]}


def test_names_with_blanks_at_their_ends_are_brought_too(image: Image) -> None:
    blank = {" first/ name ": b"blank"}
    write(image.entrypoint.parent / "cache-seed", blank)
    done = image.run(image.caches, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert held(image.caches) == {**BROUGHT, **blank}


def test_through_a_link_it_finds_what_lies_beside_it(image: Image) -> None:
    link = image.temporary / "entrypoint"
    link.symlink_to(image.entrypoint)
    done = replace(image, entrypoint=link).run(image.caches, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert held(image.caches) == BROUGHT


def test_files_that_the_image_lacks_are_said_and_the_command_runs(image: Image) -> None:
    seed = image.entrypoint.parent / "cache-seed"
    shutil.rmtree(seed)
    done = image.run(image.caches, "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")
    missing, rest = done.stderr.splitlines()
    assert missing.startswith(f"entrypoint: {seed} is missing")
    assert f"{image.caches} lacks files of the image" in rest


@pytest.mark.skipif(os.access("/var/cache/graft", os.W_OK), reason="this machine has the image's own folder")
def test_no_folder_for_caches_means_that_of_the_containerfile(image: Image) -> None:
    assert variables("runtime")["XDG_CACHE_HOME"] == "/var/cache/graft"
    done = image.run(image.caches, "echo", "here", XDG_CACHE_HOME="")
    assert (done.returncode, done.stdout) == (0, "here\n")
    assert "entrypoint: /var/cache/graft cannot be written" in done.stderr
    assert held(image.temporary / "graft-cache") == BROUGHT


def test_nowhere_to_write_is_said_with_what_to_do_and_the_command_runs(image: Image) -> None:
    done = image.run(image.read_only, "echo", "here", TMPDIR=str(image.read_only))
    assert (done.returncode, done.stdout) == (0, "here\n")
    (said,) = done.stderr.splitlines()
    assert said.startswith("entrypoint: neither") and "Mount a volume" in said and "TMPDIR" in said


def test_it_becomes_its_command(image: Image) -> None:
    """No shell stays between tini and the server: signals and the exit code are the server's."""
    done = image.run(image.caches, "sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline; echo $PPID; exit 7")
    assert done.returncode == 7
    command, parent = done.stdout.splitlines()[0].rsplit(" ", 1)
    assert command.startswith("sh -c") and int(parent) == os.getpid()
