"""A running cluster: its workers' devices count, not those of the node that started the training."""

from __future__ import annotations

import pytest

from graft.training.errors import ConfigurationError
from graft.training.launch.ray import uses_gpus


def test_workers_train_on_gpus_where_the_cluster_has_one_for_each() -> None:
    assert uses_gpus(8, {"CPU": 64.0, "GPU": 8.0})
    assert not uses_gpus(8, {"CPU": 64.0})


def test_too_few_gpus_are_no_reason_to_train_on_cpus() -> None:
    with pytest.raises(ConfigurationError, match="--ray is 8, but the cluster has 4 GPUs"):
        uses_gpus(8, {"CPU": 64.0, "GPU": 4.0})
