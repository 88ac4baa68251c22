"""What a script may take."""

from __future__ import annotations

from dataclasses import dataclass

_NUM_FILES = 64
_NUM_PENDING_SIGNALS = 64


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`seconds` are of the clock, from its input to its answer; `memory_bytes` of all its processes together; threads
    count as processes, the script's first one among them; `output_bytes` is what it may print.
    """

    seconds: float = 10.0
    memory_bytes: int = 512 << 20
    num_processes: int = 16
    output_bytes: int = 1 << 20

    def of_a_process(self) -> dict[str, int]:
        """What the kernel keeps for each process, by the names of `setrlimit`."""
        return {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": int(self.seconds) + 1,
            # One, not none: where a core is piped to a program, the kernel leaves it out only then.
            "RLIMIT_CORE": 1,
            # Nothing can be written to anyway.
            "RLIMIT_FSIZE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_NOFILE": _NUM_FILES,
            "RLIMIT_SIGPENDING": _NUM_PENDING_SIGNALS,
            # The namespace's first process, which is bwrap's, counts with them.
            "RLIMIT_NPROC": self.num_processes + 1,
        }
