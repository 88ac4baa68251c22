"""What an error tells an operator to say, the command knows."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.training.commands import worker
from graft.training.errors import ConfigurationError
from graft.training.worker.folder import JobFolder
from graft.training.worker.methods.adapting import settings_of
from graft.v1 import job_pb2


def test_a_base_that_is_served_in_a_form_for_serving_only() -> None:
    job = JobFolder(
        path=Path("job"), job=job_pb2.Job(), adapter="", base=Path("b"), form=ServingForm.FP32, target="", fence=1
    )
    base: Any = SimpleNamespace(form=None, name="tiny")
    numbers: Any = None
    with pytest.raises(ConfigurationError, match="nothing is trained here") as refused:
        settings_of(job, base, numbers, learning_rate=1.0)
    parser = argparse.ArgumentParser()
    worker.configure(parser)
    flags = set(re.findall(r"--[a-z-]+", str(refused.value)))
    assert flags and flags <= set(parser._option_string_actions)
