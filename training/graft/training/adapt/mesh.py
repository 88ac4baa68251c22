"""On which meshes a base with adapters can be trained."""

from __future__ import annotations

from transformers import PretrainedConfig

from graft.adapters.form import ServingForm
from graft.training.parallel.mesh import Mesh
from graft.training.settings.settings import TrainingSettings


def check_mesh(
    config: PretrainedConfig,
    settings: TrainingSettings,
    mesh: Mesh,
    *,
    own: ServingForm | None,
    form: ServingForm,
    num_processes: int,
) -> None:
    """Raises ``ConfigurationError`` with every reason why a base that is held in ``form`` cannot be adapted on such a
    mesh; ``own`` is the form of the folder's weights, None where they are plain.
    """
    reasons = [
        f"{axis} cannot split a base with adapters on it; use dp_replicate and dp_shard"
        for axis in ("pp", "cp", "tp")
        if getattr(mesh, axis) > 1
    ]
    if mesh.shards_weights and own is not None:
        reasons.append(
            f"the folder's weights are {own} already, whose bytes cannot be sharded; take the plain "
            "base, dp_replicate or zero_stage 1"
        )
    elif mesh.shards_weights and form is ServingForm.LLM_INT8:
        reasons.append("LLM.int8 cannot be sharded; use load_in_4bit, dp_replicate or zero_stage 1")
    accumulated = settings.gradient_accumulation_steps * mesh.dp
    mesh.check(config, num_processes=num_processes, batches_per_step=accumulated, further=reasons)
