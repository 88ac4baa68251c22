"""OpenAI's `auto`, against the published rules, and a step's rows in processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.errors import ConfigurationError
from graft.training.worker.methods.hyperparameters import Numbers


@pytest.mark.parametrize(
    ("num_rows", "epochs", "batch"),
    [(10, 10, 1), (3, 25, 1), (50, 3, 1), (1000, 3, 2), (10_000, 2, 20), (500_000, 1, 256)],
)
def test_auto_is_what_openai_publishes(num_rows: int, epochs: int, batch: int) -> None:
    """The cookbook's `n_epochs` and the guide's 0.2 % of the rows."""
    numbers = Numbers.of({"n_epochs": "auto", "batch_size": "auto"}, num_rows=num_rows)
    assert (numbers.n_epochs, numbers.batch_size, numbers.learning_rate_multiplier) == (epochs, batch, 1.0)


@given(st.integers(1, 256), st.integers(1, 9))
def test_a_step_has_the_rows_that_were_asked_for(batch: int, num_processes: int) -> None:
    asked = {"batch_size": batch, "learning_rate_multiplier": 0.5}
    if batch % num_processes:
        with pytest.raises(ConfigurationError, match=f"batch_size is {batch}, and this worker's {num_processes} "):
            Numbers.of(asked, num_rows=9, num_processes=num_processes)
        return
    numbers = Numbers.of(asked, num_rows=9, num_processes=num_processes)
    assert numbers.rows_at_once * numbers.passes * num_processes == numbers.batch_size == batch
    settings = numbers.settings(learning_rate=1e-3)
    assert settings["learning_rate"] == pytest.approx(5e-4)
    assert settings["per_device_train_batch_size"] <= 16
