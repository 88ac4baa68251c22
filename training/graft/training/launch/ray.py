"""A training on a cluster through Ray Train: Ray places the workers and starts them again when one is lost.

Checkpoints are Graft's own, in the job's folder, which all nodes must see; after a failure the workers go on from the
newest. So a training can move between one process, ``torchrun`` and Ray. Workers get no signals: SIGTERM and SIGINT to
whoever started them are passed on by a file in that folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from graft.adapters.errors import GraftError
from graft.training.errors import ConfigurationError, DataError, Interrupted, NotMeasured, OtherRun, TrainingError
from graft.training.launch.processes import Job, joined
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.interruption import SIGNALS, STOP, asked_by
from graft.training.runtime.device import device_kind
from graft.training.runtime.disk import replace_text
from graft.training.runtime.startup import prepare

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

_log = logging.getLogger(__name__)

FAILURE = "failure"
"""File in a training's folder: what no new start would mend."""
MAX_FAILURES = 3
"""Times that the workers are started again."""


def train_on_ray(job: Job, *, num_workers: int, address: str | None, resume: bool) -> None:
    """Runs the job in ``num_workers`` workers: of the cluster at ``address``, or of one that is started here and ends
    with this call.

    Raises:
        ConfigurationError: Ray is not installed.
        CheckpointError: there are checkpoints and ``resume`` was not asked for.
        TrainingError: the workers failed again and again, or their error.
        Interrupted: SIGTERM or SIGINT came, and the step's checkpoint is written.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        from ray.train import TrainingFailedError
    except ImportError:
        raise ConfigurationError('Ray is not installed: in a clone of Graft, pip install ".[cluster]".') from None

    job.check_work(resume=resume)
    failure, stop = job.work / FAILURE, job.work / STOP
    for one in (failure, stop):
        one.unlink(missing_ok=True)
    ray.init(
        address=address,
        include_dashboard=False,
        num_cpus=None if address else num_workers,
        logging_config=ray.LoggingConfig(log_level="ERROR"),
    )
    try:
        # In a running cluster this process may be on a node without the workers' devices.
        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        use_gpu = uses_gpus(num_workers, resources) if address else device_kind() == "cuda"
        _fit(_trainer(job, num_workers, use_gpu=use_gpu), stop)
    except TrainingFailedError as error:
        causes = "; ".join(dict.fromkeys(str(cause) for cause in getattr(error, "worker_failures", {}).values()))
        raise TrainingError(f"the workers failed: {causes or error}") from error
    finally:
        ray.shutdown()
    if failure.exists():
        told = failure.read_text(encoding="utf-8")
        raise Interrupted(told, number=asked_by(stop)) if stop.exists() else TrainingError(told)


def uses_gpus(num_workers: int, resources: Mapping[str, float]) -> bool:
    """Whether each worker gets a GPU, of a cluster that has these resources in all.

    Raises:
        ConfigurationError: there are GPUs, but fewer than workers.
    """
    num_gpus = int(resources.get("GPU", 0))
    if 0 < num_gpus < num_workers:
        raise ConfigurationError(
            f"--ray is {num_workers}, but the cluster has {num_gpus} GPUs, one for each worker: ask for {num_gpus} "
            "workers at most, or add nodes."
        )
    return num_gpus > 0


def _trainer(job: Job, num_workers: int, *, use_gpu: bool) -> TorchTrainer:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        _work,
        train_loop_config={"job": job.absolute()},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=job.name,
            storage_path=str(job.work.absolute() / "ray"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _fit(trainer: TorchTrainer, stop: Path) -> None:
    """In a thread: where Ray finds itself in the main one it takes SIGINT over, and ends the workers without a
    checkpoint of their step.
    """
    with _passing_on(stop), ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray") as thread:
        thread.submit(trainer.fit).result()


@contextlib.contextmanager
def _passing_on(stop: Path) -> Iterator[None]:
    """The first of ``SIGNALS`` leaves its number in the file ``stop``, which the workers look for; a second one ends at
    once, also where the disk refused that file, which is said. One that was ignored stays so, as under ``nohup``.
    """

    def pass_on(number: int, frame: FrameType | None) -> None:
        for one in heard:  # first: the disk may be full
            signal.signal(one, signal.SIG_DFL)
        try:
            stop.parent.mkdir(parents=True, exist_ok=True)
            replace_text(stop, str(number))
        except OSError as error:
            _log.error(
                "%s cannot be written (%s), so that the workers go on; a second signal ends them at once, without a "
                "checkpoint of their step",
                stop,
                error.strerror,
            )

    before = {one: signal.getsignal(one) for one in SIGNALS}
    heard = [one for one, handler in before.items() if handler is not signal.SIG_IGN]
    for one in heard:
        signal.signal(one, pass_on)
    try:
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])


def _work(config: dict[str, Any]) -> None:
    """What a worker does, at first and after every failure of one."""
    prepare()
    job: Job = config["job"]
    failure = job.work / FAILURE
    with joined() as processes:
        try:
            job.execute(processes, resume=processes.agreed(bool(complete_checkpoints(job.work))))
        # Every worker finds the same, and would again.
        except (ConfigurationError, DataError, Interrupted, NotMeasured, OtherRun, GraftError) as error:
            failure.parent.mkdir(parents=True, exist_ok=True)
            failure.write_text(str(error), encoding="utf-8")
