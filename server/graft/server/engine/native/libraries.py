"""The built libraries: which there are, where they lie, and whether they were made from the sources beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graft.server.engine.native.instruction_sets import BEST_FIRST

_ENGINE = Path(__file__).parents[1]
PREBUILT = Path(__file__).parent / "prebuilt"
_RECORD = PREBUILT / "sources.json"

COMPILER = "ziglang==0.15.2"
"""A compiler that comes as a wheel and makes the same bytes on every machine; `make kernels` fetches it."""
FLAGS = ("-O3", "-fPIC", "-shared", "-s", "-fno-exceptions", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp-simd")
GLIBC = "x86_64-linux-gnu.2.28"


@dataclass(frozen=True, kw_only=True)
class Library:
    """One library and how it is made. `source` is below `engine/`; `target` is the compiler's name of a processor."""

    name: str
    source: str
    target: str
    flags: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where the built library lies."""
        return PREBUILT / self.name

    @property
    def source_path(self) -> Path:
        """What it is made from."""
        return _ENGINE / self.source

    @property
    def source_digest(self) -> str:
        """SHA-256 of all that decides what is built."""
        digest = hashlib.sha256()
        for part in (COMPILER, GLIBC, self.target, *FLAGS, *self.flags):
            digest.update(part.encode() + b"\0")
        digest.update(self.source_path.read_bytes())
        return digest.hexdigest()


_CPP = ("-std=c++17", "-fno-rtti", "-Wl,-z,undefs")  # the OpenMP runtime is the one that torch has loaded

LIBRARIES = (
    *(
        Library(name=f"lora-{each.name}.so", source="lora_cpu/kernel.cpp", target=each.target, flags=_CPP)
        for each in BEST_FIRST
    ),
    Library(
        name="libnuma.so.1",
        source="native/libnuma.c",
        target="x86_64",
        flags=("-Wl,-soname,libnuma.so.1", "-Wl,--version-script={folder}/libnuma.map"),
    ),
)


def record_builds() -> None:
    """Write down what the libraries that lie there were made from, and their own digests."""
    record = {each.name: {"source": each.source_digest, "library": _digest(each.path)} for each in LIBRARIES}
    _RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def stale() -> Iterator[str]:
    """What does not fit: libraries that are missing, changed, or made from other sources than those beside them."""
    record = json.loads(_RECORD.read_text()) if _RECORD.is_file() else {}
    for each in LIBRARIES:
        kept = record.get(each.name, {})
        if not each.path.is_file():
            yield f"{each.name} is missing"
        elif kept.get("library") != _digest(each.path):
            yield f"{each.name} is not the library that was recorded"
        elif kept.get("source") != each.source_digest:
            yield f"{each.name} was made from another {each.source}, or by another compiler"
    for name in sorted({path.name for path in PREBUILT.glob("*.so*")} - {each.name for each in LIBRARIES}):
        yield f"{name} is nobody's"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
