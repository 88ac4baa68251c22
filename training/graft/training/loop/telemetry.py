"""Listeners of a run: TensorBoard and Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graft.training.errors import ConfigurationError
from graft.training.loop.progress import Listener

_NAMES = {
    "loss": "loss of the last step, nats per supervised token",
    "validation_loss": "loss on held-out text",
    "gradient_norm": "2-norm of the gradient before clipping",
    "tokens_per_second": "tokens read per second",
    "mfu": "share of the devices' peak arithmetic",
    "memory": "bytes of memory in use",
    "skipped": "steps left out because of their loss or gradient",
}


def listeners(folder: Path, *, start: int, tensorboard: bool, metrics_port: int | None) -> list[Listener]:
    """Those that were asked for, of a run that goes on from step ``start``. Raises ``ConfigurationError``."""
    found: list[Listener] = [TensorBoard(folder, start=start)] if tensorboard else []
    return found if metrics_port is None else [*found, Prometheus(metrics_port)]


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
