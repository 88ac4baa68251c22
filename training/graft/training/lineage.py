"""Where an adapter comes from: what was trained on what, by which code."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graft.adapters.adapter import Lineage
from graft.adapters.base import Base
from graft.adapters.digest import PREFIX, digest_of_json, sha256_of_file
from graft.adapters.form import ServingForm
from graft.training.finetune_settings import FinetuneSettings
from graft.training.settings import ELSEWHERE


def data_digest(path: Path) -> str:
    """SHA-256 of the data file's bytes. Raises ``OSError``."""
    return PREFIX + sha256_of_file(path)


def code_version() -> str:
    """The distribution's version and, in a checkout, the commit: ``0.1.0+g1a2b3c4``."""
    try:
        number = version("graftserve")
    except PackageNotFoundError:
        number = "0"
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number}+g{commit}"


def job_id(base: Base, form: ServingForm, data: str, settings: FinetuneSettings, *, dp: int = 1) -> str:
    """Names a training by everything that decides its result, so that the same training is the same job when it is
    resumed, with as many data-parallel processes or others.
    """
    elsewhere = ELSEWHERE | {"gradient_accumulation_steps"}
    values = {name: str(value) for name, value in vars(settings).items() if name not in elsewhere}
    values["micro-batches per step"] = str(settings.gradient_accumulation_steps * dp)
    digest = digest_of_json({"base": base.digest, "form": form.value, "data": data, "settings": values})
    return "finetune-" + digest.removeprefix(PREFIX)[:12]


def lineage(job: str, data: str, settings: FinetuneSettings) -> Lineage:
    return Lineage(job=job, data_digest=data, code_version=code_version(), seed=settings.seed)
