"""A finished run as a row of Llama 3's table of layouts (Dubey et al. 2024, arXiv:2407.21783, table 4)."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from graft.training.loop.loss_curve import METRICS, read_metrics
from graft.training.loop.progress import Gauge
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.runtime import markdown


def layout_table(settings: PretrainSettings, mesh: Mesh, work: Path, gauge: Gauge) -> str:
    """Markdown. Speeds are medians over all steps but the first tenth. Without GPUs it stands for a process."""
    rows = read_metrics(work)
    counted = rows[len(rows) // 10 :]
    if not counted:
        return f"no step stands in {work / METRICS}: the table of speeds is left out"
    speed = median(row["tokens_per_second"] for row in counted)
    share = gauge.utilisation(speed)
    per_gpu = None if gauge.flops_per_token is None else gauge.flops_per_token * speed / mesh.size
    cells = [
        mesh.size,
        mesh.tp,
        mesh.cp,
        mesh.pp,
        mesh.dp,
        settings.max_length,
        settings.per_device_train_batch_size * settings.gradient_accumulation_steps,
        f"{median(row['tokens'] for row in counted):,.0f}",
        "–" if per_gpu is None else f"{per_gpu / 1e12:.3g}",
        "–" if share is None else f"{share:.0%}",
    ]
    head = "GPUs | TP | CP | PP | DP | Seq. Len. | Batch size/DP | Tokens/Batch | TFLOP/s per GPU | MFU"
    return markdown.table(head, [cells])
