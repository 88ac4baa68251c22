"""Whether a model, a recipe and a mesh go together."""

from __future__ import annotations

from collections.abc import Iterator

from graft.training.model.loading import parts
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.assembly import Assembly


def check_mesh(assembly: Assembly, mesh: Mesh, num_processes: int) -> None:
    """Raises ``ConfigurationError`` with every reason why this model cannot be trained so."""
    settings = assembly.settings
    mesh.check(
        parts(assembly.skeleton())[""].config,
        num_processes=num_processes,
        batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
        length=settings.max_length,
        further=_reasons(assembly, mesh),
    )


def _reasons(assembly: Assembly, mesh: Mesh) -> Iterator[str]:
    settings = assembly.settings
    if settings.teacher is not None and (mesh.tp > 1 or mesh.pp > 1 or mesh.cp > 1):
        yield "a teacher is not split: distil with dp_replicate and dp_shard"
    if settings.eval_steps is not None and mesh.pp > 1:
        yield "eval_steps cannot be used with pp: a pipeline measures at the end only"
    if settings.optim != "adamw" and (mesh.tp > 1 or mesh.shards_weights):
        yield f"{settings.optim} needs whole matrices; use adamw where they are split or sharded"
    if assembly.objective_name != "causal" and (mesh.pp > 1 or mesh.cp > 1):
        yield f"pp and cp compute next-token prediction only, not {assembly.objective_name}"
