"""Can a GPU machine install Graft? Asks uv and pip, for each Python, as Linux on x86-64 would; downloads metadata only.

uv: the extras, held to `requirements/gpu.lock`, need nothing that is not in it. pip: each line of the lock has a wheel,
and the README's `pip install ".[server,training,gpu]"` resolves without the lock.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile

from packaging.utils import canonicalize_name

from tests.tools.check_lock import GPU_EXTRAS, ROOT, locked_versions

PYTHONS = ("3.11", "3.12", "3.13")
LOCK = ROOT / "requirements" / "gpu.lock"
# Since 25 a dry run of pip downloads metadata where it can; the environment's may be older.
_PIP = "pip==26.3"
# Red Hat Enterprise Linux 9 has glibc 2.34, Ubuntu 22.04 and Debian 12 have newer ones. pip takes no older names along.
_GLIBC = 34
_TAGS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(17, _GLIBC + 1)), "manylinux2014_x86_64", "linux_x86_64")


def not_locked(resolved: str, locked: dict[str, tuple[str, ...]]) -> list[str]:
    """The pins in a resolution, one a line, that the lock has not."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", resolved, re.MULTILINE)
    return [f"{name}=={one}" for name, one in pins if one not in locked.get(canonicalize_name(name), ())]


def _asked(command: list[str], **variables: str) -> str:
    # Wheels in a folder of this machine are none of a GPU machine's.
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"} | variables
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "is ignored" not in line]
        raise SystemExit(f"{' '.join(command[:4])} …: it cannot be had:\n" + "\n".join(lines[-8:]))
    return done.stdout


def _uv(python: str) -> int:
    command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    command += [f"--extra={extra}" for extra in GPU_EXTRAS]
    command += ["--constraint", str(LOCK), "--only-binary", ":all:", "--python-version", python]
    resolved = _asked([*command, "--python-platform", f"x86_64-manylinux_2_{_GLIBC}"])
    if missing := not_locked(resolved, locked_versions(LOCK)):
        raise SystemExit(f"requirements/gpu.lock lacks {', '.join(missing)}: run make lock")
    return resolved.count("==")


def _pip(python: str, *what: str) -> int:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    command += ["--use-feature=fast-deps", "--implementation", "cp", "--python-version", python]
    command += [f"--platform={tag}" for tag in _TAGS]
    with tempfile.TemporaryDirectory() as target:
        told = _asked([*command, "--target", target, *what], PYTHONPATH=str(ROOT / "build" / "pip"))
    return len(told.splitlines()[-1].removeprefix("Would install ").split())


def main() -> int:
    """0 where everything can be had; raises SystemExit with what cannot."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--target",
        str(ROOT / "build" / "pip"),
        _PIP,
    ]
    _asked(pip)
    for python in PYTHONS:
        print(f"Python {python}: uv {_uv(python)} packages within the lock", end="", flush=True)
        print(f", pip {_pip(python, '--no-deps', '--requirement', str(LOCK))} of the lock", end="", flush=True)
        print(f", pip {_pip(python, '.[server,training,gpu]')} without it", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
