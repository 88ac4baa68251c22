"""Is every direct requirement of pyproject.toml satisfied by the lock? Prints every one that is not."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# The lock holds the CPU engine and the tools; the GPU engine shares its import name and is never beside it.
EXTRAS = ("cpu", "dev")


def requirements(pyproject: Path) -> Iterator[Requirement]:
    """The direct requirements of the distribution and of the locked extras, with their own extras unfolded."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    yield from map(Requirement, project["dependencies"])
    waiting, seen = list(EXTRAS), set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                waiting += requirement.extras
            else:
                yield requirement


def locked_versions(lock: Path) -> dict[str, str]:
    """Distribution name to version. Raises ValueError for a line that is no exact pin."""
    versions = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;]+)(?:\s*;.*)?", line.strip())
        if match is None:
            raise ValueError(f"{lock.name}: {line!r} is no exact pin")
        versions[canonicalize_name(match[1])] = match[2]
    return versions


def problems(pyproject: Path, lock: Path) -> list[str]:
    """What the lock does not satisfy, sorted."""
    versions = locked_versions(lock)
    found = set()
    for requirement in requirements(pyproject):
        version = versions.get(canonicalize_name(requirement.name))
        if version is None:
            found.add(f"{requirement} is not in the lock")
        elif version not in requirement.specifier:
            found.add(f"{requirement} is not satisfied by {version}")
    return sorted(found)


def main() -> int:
    """0 where the lock satisfies everything."""
    found = problems(ROOT / "pyproject.toml", ROOT / "requirements" / "cpu.lock")
    for problem in found:
        print(f"requirements/cpu.lock: {problem}; run `make lock`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
