"""What a training is planned for: devices, their memory, and what they could compute."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Self

from graft.training.errors import ConfigurationError
from graft.training.settings.limits import number, require

_FLAGS = ("devices", "memory", "gpu")


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plan", action="store_true", help="print what it would take and what fits; nothing is started"
    )
    parser.add_argument("--devices", type=int, help="with --plan: so many (default: 1)")
    parser.add_argument(
        "--memory", metavar="BYTES", help="with --plan: of each device, such as 80G (default: this one's)"
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help="with --plan: for a GPU that is not here, as its driver names it, such as L40S"
    )


def check_plan_flags(args: argparse.Namespace) -> None:
    """Raises ``ConfigurationError`` where they stand without ``--plan``."""
    for flag in _FLAGS:
        if not args.plan and getattr(args, flag) is not None:
            raise ConfigurationError(f"--{flag} is for --plan: add that, or leave it out.")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Of equal devices."""

    num: int
    kind: str
    """``cpu`` or ``cuda``."""
    room: float
    """Bytes of each."""
    peak: float | None
    """FLOP/s of all together, where it is known."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """This one, or what flags say. Raises ``ConfigurationError``."""
        num = 1 if args.devices is None else args.devices
        require(num >= 1, "--devices", num, "at least 1")
        room = None if args.memory is None else number("--memory", args.memory)
        return cls.named(args.gpu, num=num, room=room)

    @classmethod
    def named(cls, gpu: str | None, *, num: int, room: float | None) -> Self:
        """So many GPUs of a name, or so many devices of this machine. Raises ``ConfigurationError``."""
        from graft.training.model.cost.peaks import FLOAT16_ONLY, PEAKS, peak_of, peak_of_all
        from graft.training.runtime.device import device_kind

        if gpu is None:
            kind = device_kind()
            return cls(num=num, kind=kind, room=room or _own_bytes(kind, num), peak=peak_of_all(kind, num))
        peak = peak_of(gpu)
        if peak is None:
            raise ConfigurationError(
                f"--gpu {gpu!r} is no card whose bfloat16 peak is known: give one of {', '.join(PEAKS)}, or leave it "
                f"out and the time is not told ({', '.join(FLOAT16_ONLY)} have no bfloat16)."
            )
        if room is None:
            raise ConfigurationError(f"--gpu {gpu} is planned for by its memory: add --memory, such as 80G.")
        return cls(num=num, kind="cuda", room=room, peak=peak * num)

    @property
    def usable(self) -> float:
        """Bytes for tensors. Of a GPU's the driver's context, libraries' workspaces and gaps take some."""
        return self.room * (0.95 if self.kind == "cuda" else 1.0)

    @property
    def said(self) -> str:
        devices = f"{self.room / 1e9:,.1f} GB for each of {self.num} {self.kind} device{'s' * (self.num > 1)}"
        return devices if self.usable == self.room else f"{devices}, of which tensors get {self.usable / 1e9:,.1f}"


def _own_bytes(kind: str, num: int) -> float:
    """Of a GPU, or of this machine's memory for each of so many processes."""
    import psutil
    import torch

    if kind == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(psutil.virtual_memory().available / num)
