"""An image of `deploy/Containerfile`, built by Debian's buildah upon a bare Debian that is made on this machine.

No registry of images is asked. pip's configuration goes in as the build's secret, and the folders and files that it
names are seen by the steps at their own paths.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
CONTAINERFILE = ROOT / "deploy/Containerfile"
DEBIAN = "localhost/debian:bookworm-slim"
NEEDED = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux"}
"""Programs, with Debian's packages of them."""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What an image says of its containers."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]
    volumes: tuple[str, ...]
    user: str
    folder: str
    healthcheck: tuple[str, ...]


class Builder:
    """Keeps images, layers and the bare Debian below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def build(self, target: str) -> str:
        """Build a target and return its name; its steps speak on standard error. Raises `CalledProcessError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_debian()
        name, secret = f"localhost/graft:{target}", self._folder / "pip.conf"
        secret.write_text(_pip_configuration(), encoding="utf-8")
        options = ["--isolation", "chroot", "--format", "docker", "--layers", "--target", target, "--tag", name]
        options += ["--build-arg", f"DEBIAN={DEBIAN}", "--secret", f"id=pip,src={secret}"]
        for path in _seen_by_pip(secret.read_text(encoding="utf-8")):
            options += ["--volume", f"{path}:{path}:ro"]
        self._buildah("build", *options, "--file", str(CONTAINERFILE), str(ROOT))
        return name

    def config(self, image: str) -> Config:
        """As a container engine reads it."""
        told = json.loads(self._buildah("inspect", "--type", "image", image, quiet=True))["Docker"]["config"]
        return Config(
            entrypoint=tuple(told["Entrypoint"]),
            command=tuple(told["Cmd"]),
            environment=dict(one.split("=", 1) for one in told["Env"]),
            volumes=tuple(told["Volumes"]),
            user=told["User"],
            folder=told["WorkingDir"],
            healthcheck=tuple(told["Healthcheck"]["Test"][1:]),
        )

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The image's files, with their owners, as a folder; what is written there goes with the context."""
        container = self._buildah("from", "--pull-never", image, quiet=True).strip()
        try:
            yield Path(self._buildah("mount", container, quiet=True).strip())
        finally:
            self._buildah("umount", container, quiet=True)
            self._buildah("rm", container, quiet=True)

    def _make_debian(self) -> None:
        """The base image, unless it is there. The machine's certificates are its own: packages come through them."""
        if self._buildah("images", "--quiet", DEBIAN, check=False, quiet=True).strip():
            return
        archive = self._folder / "debian.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", str(archive)],
            check=True,
            stdout=sys.stderr,
        )
        container = self._buildah("from", "scratch", quiet=True).strip()
        self._buildah("add", "--quiet", container, str(archive), "/")
        if _CERTIFICATES.exists():
            self._buildah("copy", "--quiet", container, str(_CERTIFICATES), str(_CERTIFICATES))
        self._buildah("commit", "--quiet", "--rm", container, DEBIAN)
        archive.unlink()

    def _buildah(self, *arguments: str, check: bool = True, quiet: bool = False) -> str:
        done = subprocess.run(
            ["buildah", *self._storage, *arguments],
            check=check,
            text=True,
            stdout=subprocess.PIPE if quiet else sys.stderr,
            stderr=None if check else subprocess.DEVNULL,
        )
        return done.stdout or ""


def missing() -> list[str]:
    """What the build and the run need and this machine lacks, each with its remedy."""
    return [f"{name} (apt-get install {package})" for name, package in NEEDED.items() if shutil.which(name) is None]


def _pip_configuration() -> str:
    """What pip uses here, from files and environment alike, as one file."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, str] = {}
    for key, value in re.findall(r"^(?:global|user|site|install|:env:)\.([\w-]+)='(.*)'$", told, re.MULTILINE):
        found[key] = value.replace("\\n", " ")
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in found.items()), ""])


def _seen_by_pip(configuration: str) -> Iterator[Path]:
    """The files and folders of this machine that it names. An index's pages name files beside its folder."""
    for value in re.findall(r"= (.*)$", configuration, re.MULTILINE):
        for word in value.split():
            is_index, path = word.startswith("file://"), Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                yield path.parent if is_index else path
