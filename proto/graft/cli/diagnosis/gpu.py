"""Whether the GPUs here can serve and train: the driver against torch, and each card against what the engine needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graft.cli.diagnosis.finding import Finding, State
from graft.cli.diagnosis.nvidia import Card, Cards
from graft.cli.diagnosis.packages import Packages

# The first drivers of each major version of CUDA (NVIDIA's table of CUDA and driver versions, Linux).
_DRIVERS = {11: "450", 12: "525", 13: "580"}
# Below this CUDA 13 has no code (Maxwell, Pascal, Volta were dropped); vLLM begins at 7.0.
_OLDEST = {12: (7, 0), 13: (7, 5)}
_BFLOAT16 = (8, 0)
_TAKEN = 0.9
"""Of a card's memory: what `graft serve` takes by default."""
_REPORT = "run nvidia-smi, which says more"
Variables = Mapping[str, str]


def usable(here: Cards, there: Packages) -> bool:
    """Whether this torch could compute on a card of these."""
    return bool(here.cards) and (there.cuda is None or here.cuda is None or _major(there.cuda) <= here.cuda[0])


def findings(here: Cards, there: Packages, environment: Variables) -> Iterator[Finding]:
    """Of the driver and of each card; one line where there is none."""
    if not here.cards:
        yield _none(here, there)
        return
    yield _driver(here, there)
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        yield _visible(visible)
    for index, card in enumerate(here.cards):
        yield _card(index, card, there)
        yield from _notices(index, card)
    if len({card.name for card in here.cards}) > 1:
        remedy = "name cards of one kind in CUDA_VISIBLE_DEVICES: split over several, all wait for the slowest"
        yield Finding(subject="GPUs", state="notice", found="of several kinds", remedy=remedy)
    if len(here.cards) > 1 and there.cuda is not None:
        yield _nccl(there)


def _none(here: Cards, there: Packages) -> Finding:
    if here.failure is not None:
        return Finding(subject="GPU", state="problem", found=f"its driver answers: {here.failure}", remedy=_REPORT)
    if here.has_devices:
        found = "device files are here, and neither the driver's library nor nvidia-smi"
        remedy = "in a container: start it with --gpus all, with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        return Finding(subject="GPU", state="problem", found=found, remedy=remedy)
    if here.num_on_bus:
        found = f"{here.num_on_bus} on the PCI bus, and no driver"
        remedy = f"install NVIDIA's driver {_DRIVERS[13]} or newer; in a container: start it with --gpus all"
        return Finding(subject="GPU", state="problem", found=found, remedy=remedy)
    if "vllm" in there.versions:
        remedy = "on a machine that has one, the driver or its device files are missing; in a container: --gpus all"
        return Finding(subject="GPU", state="problem", found="none can be seen here", remedy=remedy)
    return Finding(subject="GPU", state="ok", found="none: served and trained on the CPU")


def _driver(here: Cards, there: Packages) -> Finding:
    runs = "" if here.cuda is None else f", runs programs for CUDA {here.cuda[0]}.{here.cuda[1]} and older"
    found = f"{here.driver or 'of unknown version'}{runs}"
    if there.cuda is None or here.cuda is None or _major(there.cuda) <= here.cuda[0]:
        return Finding(subject="GPU driver", state="ok", found=found)
    newer = _DRIVERS.get(_major(there.cuda), "of the newest version")
    remedy = f"install driver {newer} or newer, or a torch that was built for CUDA {here.cuda[0]}"
    found = f"{found}; torch was built for CUDA {there.cuda}"
    return Finding(subject="GPU driver", state="problem", found=found, remedy=remedy)


def _visible(value: str) -> Finding:
    subject = "CUDA_VISIBLE_DEVICES"
    if value.strip() in ("", "-1"):
        return Finding(subject=subject, state="problem", found="hides every card", remedy="unset it")
    return Finding(subject=subject, state="ok", found=f"{value}: the others stay unused")


def _card(index: int, card: Card, there: Packages) -> Finding:
    memory = f"{card.free_bytes / 1e9:.1f} of {card.total_bytes / 1e9:.1f} GB free"
    if card.capability is None:
        return _said(index, "notice", f"{card.name}, {memory}, compute capability unknown", _REPORT)
    version = "{}.{}".format(*card.capability)
    found = f"{card.name}, {memory}, compute capability {version}"
    oldest = _OLDEST.get(_major(there.cuda or "13"), (7, 0))
    if card.capability < oldest:
        remedy = (
            "take a newer card" if oldest == (7, 0) else "take a newer card, or a torch built for CUDA 12 (from 7.0)"
        )
        lost = f"torch and the engine have no code for less than {oldest[0]}.{oldest[1]}"
        return _said(index, "problem", f"{found}: {lost}", remedy)
    if card.capability < _BFLOAT16:
        lost = "no bfloat16, in which every form is served; no FlashAttention 2, and training is slow"
        return _said(index, "problem", f"{found}: {lost}", "take a card from 8.0 on (A100, L4, H100 and the like)")
    return _said(index, "ok", found)


def _notices(index: int, card: Card) -> Iterator[Finding]:
    if card.free_bytes < _TAKEN * card.total_bytes:
        users = ", ".join(
            f"{one.name} ({one.pid}" + (f", {one.used_bytes / 1e9:.1f} GB)" if one.used_bytes else ")")
            for one in card.processes
        )
        share = card.free_bytes / card.total_bytes
        remedy = f"end what is not wanted, or graft serve --gpu-memory-fraction {max(0.05, share - 0.05):.2f}"
        yield _said(index, "notice", f"memory is taken by {users or 'processes that cannot be seen here'}", remedy)
    elif card.processes:
        names = ", ".join(f"{one.name} ({one.pid})" for one in card.processes)
        yield _said(index, "notice", f"others compute there: {names}", "their work and yours slow each other down")
    if card.is_split:
        remedy = "name one instance in CUDA_VISIBLE_DEVICES (nvidia-smi -L); a base is not split over instances"
        yield _said(index, "notice", "MIG is on: a process sees one instance of the card", remedy)
    if card.is_kept_awake is False:
        remedy = "nvidia-smi -pm 1, or the service nvidia-persistenced"
        yield _said(index, "notice", "persistence mode is off: each first use waits for the driver", remedy)


def _nccl(there: Packages) -> Finding:
    found = {name: there.versions[name] for name in there.versions if name.startswith("nvidia-nccl")}
    if found:
        return Finding(subject="NCCL", state="ok", found=", ".join(f"{name} {one}" for name, one in found.items()))
    remedy = "pip install nvidia-nccl-cu13, unless torch brought its own (a container of NVIDIA's)"
    return Finding(subject="NCCL", state="notice", found="not installed as a package", remedy=remedy)


def _said(index: int, state: State, found: str, remedy: str = "") -> Finding:
    return Finding(subject=f"GPU {index}", state=state, found=found, remedy=remedy)


def _major(version: str) -> int:
    return int(version.partition(".")[0])
