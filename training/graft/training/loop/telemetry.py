"""Listeners of a run: TensorBoard, Weights & Biases and Prometheus."""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft.training.errors import ConfigurationError, first_line
from graft.training.loop.progress import Listener
from graft.training.settings.settings import TENSORBOARD, WANDB, TrainingSettings

_NAMES = {
    "loss": "loss of the last step, nats per supervised token",
    "validation_loss": "loss on held-out text",
    "gradient_norm": "2-norm of the gradient before clipping",
    "tokens_per_second": "tokens read per second",
    "mfu": "share of the devices' peak arithmetic",
    "memory": "bytes of memory in use",
    "skipped": "steps left out because of their loss or gradient",
}


def check_report_to(settings: TrainingSettings) -> None:
    """Raises ``ConfigurationError`` where what was asked for is not installed."""
    if WANDB in settings.report_to and importlib.util.find_spec(WANDB) is None:
        raise ConfigurationError(
            "setting 'report_to' names wandb, which is not installed: pip install wandb, or leave it out."
        )


def listeners(folder: Path, settings: TrainingSettings, *, start: int) -> list[Listener]:
    """Those that were asked for, of a run that goes on from step ``start``. Raises ``ConfigurationError``."""
    found: list[Listener] = []
    if settings.tensorboard or TENSORBOARD in settings.report_to:
        found.append(TensorBoard(folder, start=start))
    if WANDB in settings.report_to:
        found.append(WeightsAndBiases(folder, values=asdict(settings)))
    return found if settings.metrics_port is None else [*found, Prometheus(settings.metrics_port)]


class TensorBoard:
    """Scalars under ``<folder>/tensorboard``; a resumed run takes back what it repeats."""

    def __init__(self, folder: Path, *, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder / "tensorboard", purge_step=start)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project ``graft`` (``WANDB_PROJECT``), named as its folder (``WANDB_NAME``). Files lie under
    ``<folder>/wandb``; with ``WANDB_MODE=offline`` they stay there, for ``wandb sync``.

    A resumed run goes on with the same run; of steps that it repeats the first values stay. Raises
    ``ConfigurationError`` where wandb cannot begin, for example without a key.
    """

    def __init__(self, folder: Path, *, values: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module(WANDB)
        try:
            self._run = wandb.init(
                dir=folder,
                project=os.environ.get("WANDB_PROJECT", "graft"),
                name=os.environ.get("WANDB_NAME", folder.name),
                id=os.environ.get("WANDB_RUN_ID", _wandb_id(folder)),
                resume="allow",
                config=dict(values),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise ConfigurationError(
                f"wandb cannot begin: {first_line(error)}. Run `wandb login`, set WANDB_MODE=offline to keep its files "
                "here, or leave wandb out of report_to."
            ) from None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb_id(folder: Path) -> str:
    """The same for every start in a folder."""
    path = folder / "wandb-id"
    if not path.exists():
        path.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text(encoding="utf-8")


class Prometheus:
    """``graft_training_…`` at ``http://127.0.0.1:<port>/metrics`` while the run lasts.

    Raises ``ConfigurationError`` where the port is taken.
    """

    def __init__(self, port: int) -> None:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client import Gauge as PrometheusGauge

        registry = CollectorRegistry()
        self._gauges = {
            name: PrometheusGauge(f"graft_training_{name}", text, registry=registry) for name, text in _NAMES.items()
        }
        self._step = PrometheusGauge("graft_training_step", "optimizer steps taken", registry=registry)
        self._tokens = PrometheusGauge("graft_training_tokens", "tokens read since this start", registry=registry)
        try:
            self._server, self._thread = start_http_server(port, addr="127.0.0.1", registry=registry)
        except OSError as error:
            raise ConfigurationError(f"metrics_port {port} cannot be listened on: {error}; choose another.") from None
        self.port: int = self._server.server_port

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step.set(step + 1)
        self._tokens.inc(metrics["tokens"])
        for name, gauge in self._gauges.items():
            if name in metrics:
                gauge.set(metrics[name])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
