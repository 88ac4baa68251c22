"""Is every direct requirement of pyproject.toml satisfied by the locks, and do they agree? Prints what is not."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# A lock holds one engine and the tools: the engines share an import name, and one is never beside the other.
CPU_EXTRAS = ("cpu", "dev")
GPU_EXTRAS = ("server", "training", "gpu", "dev")
# Without tools: what an image holds.
IMAGE_EXTRAS = {"cpu": ("cpu", "image"), "gpu": ("gpu", "image")}


def requirements(pyproject: Path, extras: Iterable[str]) -> Iterator[Requirement]:
    """The direct requirements of the distribution and of the locked extras, with their own extras unfolded."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    yield from map(Requirement, project["dependencies"])
    waiting, seen = list(extras), set()
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


def locked_versions(lock: Path) -> dict[str, tuple[str, ...]]:
    """Distribution name to versions: several where they depend on the machine. Raises ValueError for a line that is no
    exact pin.
    """
    versions: dict[str, tuple[str, ...]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;]+)(?:\s*;.*)?", line.strip())
        if match is None:
            raise ValueError(f"{lock.name}: {line!r} is no exact pin")
        name = canonicalize_name(match[1])
        versions[name] = (*versions.get(name, ()), match[2])
    return versions


def problems(pyproject: Path, lock: Path, extras: Iterable[str] = CPU_EXTRAS) -> list[str]:
    """What the lock does not satisfy, sorted."""
    versions = locked_versions(lock)
    found = set()
    for requirement in requirements(pyproject, extras):
        locked = versions.get(canonicalize_name(requirement.name))
        if locked is None:
            found.add(f"{requirement} is not in the lock")
        for version in locked or ():
            if version not in requirement.specifier:
                found.add(f"{requirement} is not satisfied by {version}")
    return sorted(found)


def differences(lock: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What both locks hold, and in no version that is the same."""
    return [
        f"{name} is {' or '.join(lock[name])} here and {' or '.join(other[name])} there"
        for name in sorted(lock.keys() & other.keys())
        if not set(lock[name]) & set(other[name])
    ]


def main() -> int:
    """0 where the locks satisfy everything."""
    cpu, gpu = (ROOT / "requirements" / name for name in ("cpu.lock", "gpu.lock"))
    found = [(cpu, one) for one in problems(ROOT / "pyproject.toml", cpu)]
    found += [(gpu, one) for one in problems(ROOT / "pyproject.toml", gpu, GPU_EXTRAS)]
    found += [(gpu, one) for one in differences(locked_versions(gpu), locked_versions(cpu))]
    for device, extras in IMAGE_EXTRAS.items():
        whole, image = (ROOT / "requirements" / name for name in (f"{device}.lock", f"{device}-image.lock"))
        found += [(image, one) for one in problems(ROOT / "pyproject.toml", image, extras)]
        found += [(image, one) for one in differences(locked_versions(image), locked_versions(whole))]
    for lock, problem in found:
        print(f"requirements/{lock.name}: {problem}; run `make lock`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
