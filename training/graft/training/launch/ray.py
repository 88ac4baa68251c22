"""A training on a cluster through Ray Train: Ray places the workers and starts them again when one is lost.

Checkpoints are Graft's own, in the job's folder, which all nodes must see; after a failure the workers go on from the
newest. So a training can move between one process, ``torchrun`` and Ray.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from graft.adapters.errors import GraftError
from graft.training.errors import ConfigurationError, DataError, OtherRun, TrainingError
from graft.training.launch.processes import Job, joined
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.runtime.device import device_kind
from graft.training.runtime.startup import prepare

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
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        raise ConfigurationError('Ray is not installed: in a clone of Graft, pip install ".[cluster]".') from None

    job.check_work(resume=resume)
    failure = job.work / FAILURE
    failure.unlink(missing_ok=True)
    use_gpu = device_kind() == "cuda"
    ray.init(
        address=address,
        include_dashboard=False,
        num_cpus=None if address else num_workers,
        logging_config=ray.LoggingConfig(log_level="ERROR"),
    )
    try:
        TorchTrainer(
            _work,
            train_loop_config={"job": job.absolute()},
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
            run_config=RunConfig(
                name=job.name,
                storage_path=str(job.work.absolute() / "ray"),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()
    except TrainingFailedError as error:
        causes = "; ".join(dict.fromkeys(str(cause) for cause in getattr(error, "worker_failures", {}).values()))
        raise TrainingError(f"the workers failed: {causes or error}") from error
    finally:
        ray.shutdown()
    if failure.exists():
        raise TrainingError(failure.read_text(encoding="utf-8"))


def _work(config: dict[str, Any]) -> None:
    """What a worker does, at first and after every failure of one."""
    prepare()
    job: Job = config["job"]
    failure = job.work / FAILURE
    with joined() as processes:
        try:
            job.execute(processes, resume=processes.agreed(bool(complete_checkpoints(job.work))))
        # Every worker finds the same, and would again.
        except (ConfigurationError, DataError, OtherRun, GraftError) as error:
            failure.parent.mkdir(parents=True, exist_ok=True)
            failure.write_text(str(error), encoding="utf-8")
