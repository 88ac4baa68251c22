"""`make kernels` and what `make check` asks of it: python -m graft.server.engine.native.build [--check] [COMPILER…].

COMPILER is the command that starts zig's C++ compiler, such as `python -m ziglang c++`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from graft.server.engine.native.libraries import FLAGS, GLIBC, LIBRARIES, PREBUILT, Library, record_builds, stale


def main(arguments: Sequence[str]) -> int:
    """Build all, or check that nothing is stale; returns the exit code."""
    if list(arguments) == ["--check"]:
        problems = list(stale())
        for problem in problems:
            print(f"prebuilt kernels: {problem}: run make kernels", file=sys.stderr)
        return 1 if problems else 0
    PREBUILT.mkdir(exist_ok=True)
    for old in PREBUILT.glob("*.so*"):
        old.unlink()
    for library in LIBRARIES:
        _build(library, arguments)
        print(f"{library.name}: {library.path.stat().st_size / 1024:.0f} KiB")
    record_builds()
    return 0


def _build(library: Library, compiler: Sequence[str]) -> None:
    folder = str(library.source_path.parent)
    flags = [flag.replace("{folder}", folder) for flag in (*FLAGS, *library.flags)]
    place = ["-target", GLIBC, f"-mcpu={library.target}"]
    # By name from its folder, so that no path of this machine is in what is built.
    command = [*compiler, *place, *flags, library.source_path.name, "-o", str(library.path)]
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
