"""How long a large training takes on a cluster, on paper.

A step is the arithmetic at the speed that large products reach, the exchanges that nothing hides, and the pipeline's
idle part (Narayanan et al. 2021, arXiv:2104.04473, §2.2). Exchanges, per layer and micro-batch: tensor parallelism
gathers and reduces the states four times (forward and backward; Korthikanti et al. 2022, arXiv:2205.05198), context
parallelism gathers keys and values (Llama 3, §3.3.2); sharded data parallelism is hidden behind the arithmetic but
for its first and last layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.runtime import markdown


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU and its links, in bytes and FLOP per second."""

    peak: float
    efficiency: float
    """Of the peak, which the products and the attention of a block reach together."""
    near: float
    """To the GPUs of the same machine."""
    far: float
    """To all others."""


H100 = Device(peak=989e12, efficiency=0.515, near=450e9, far=50e9)
"""SXM, NVLink 4, 400 Gb/s of network each. The efficiency is the one number that was chosen: so that the first of
Llama 3's published layouts comes out right."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What the arithmetic of a decoder depends on."""

    name: str
    parameters: float
    num_layers: int
    width: int
    kv_width: int


LLAMA_3_8B = Decoder(name="Llama-3-8B", parameters=8.03e9, num_layers=32, width=4096, kv_width=1024)
LLAMA_3_405B = Decoder(name="Llama-3-405B", parameters=405.9e9, num_layers=126, width=16384, kv_width=1024)


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """A mesh and its batch."""

    tp: int
    cp: int
    pp: int
    dp: int
    length: int
    batch_per_dp: int
    """Rows of a step in each data-parallel group, one a micro-batch."""
    chunks_per_stage: int = 1
    """Of an interleaved pipeline."""

    @property
    def num_gpus(self) -> int:
        return self.tp * self.cp * self.pp * self.dp

    @property
    def tokens_per_step(self) -> int:
        return self.dp * self.batch_per_dp * self.length


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one step."""

    seconds: float
    flops_per_gpu: float
    """FLOP/s of the model's arithmetic, by 6 N D and causal attention."""
    mfu: float
    bubble: float
    """Part of the time in which a stage waits."""


def predict(decoder: Decoder, arrangement: Arrangement, device: Device = H100) -> Prediction:
    """Time and utilisation of one step."""
    one, tokens = arrangement, arrangement.tokens_per_step
    attention = 6 * decoder.num_layers * decoder.width * one.length  # causal: half of 12
    flops = tokens * (6 * decoder.parameters + attention)
    compute = flops / one.num_gpus / (device.peak * device.efficiency)
    own_tokens = one.length // one.cp * one.batch_per_dp
    own_layers = decoder.num_layers / one.pp
    states = 2.0 * own_tokens * decoder.width  # bfloat16
    near = 0.0 if one.tp == 1 else 8 * own_layers * states * (one.tp - 1) / one.tp / device.near
    link = device.near if one.tp * one.cp <= 8 else device.far
    keys = 2 * 2.0 * one.length * one.batch_per_dp * decoder.kv_width / one.tp
    far = 0.0 if one.cp == 1 else 3 * own_layers * keys * (one.cp - 1) / one.cp / link
    weights = 2.0 * decoder.parameters / one.tp / one.pp
    ends = 0.0 if one.dp == 1 else 3 * weights * 2 / own_layers / (device.near if one.num_gpus <= 8 else device.far)
    waiting = (one.pp - 1) / (one.batch_per_dp * one.chunks_per_stage)
    seconds = (compute + near + far) * (1 + waiting) + ends
    reached = flops / one.num_gpus / seconds
    return Prediction(seconds=seconds, flops_per_gpu=reached, mfu=reached / device.peak, bubble=waiting / (1 + waiting))


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a published table."""

    decoder: Decoder
    arrangement: Arrangement
    tflops_per_gpu: float
    mfu: float


LLAMA_3 = (
    Published(
        decoder=LLAMA_3_405B,
        arrangement=Arrangement(tp=8, cp=1, pp=16, dp=64, length=8192, batch_per_dp=32, chunks_per_stage=8),
        tflops_per_gpu=430,
        mfu=0.43,
    ),
    Published(
        decoder=LLAMA_3_405B,
        arrangement=Arrangement(tp=8, cp=1, pp=16, dp=128, length=8192, batch_per_dp=16, chunks_per_stage=8),
        tflops_per_gpu=400,
        mfu=0.41,
    ),
    Published(
        decoder=LLAMA_3_405B,
        arrangement=Arrangement(tp=8, cp=16, pp=16, dp=8, length=131072, batch_per_dp=16, chunks_per_stage=8),
        tflops_per_gpu=380,
        mfu=0.38,
    ),
)
"""Llama 3 (Dubey et al. 2024, arXiv:2407.21783), table 4: 16M tokens a step."""


def table() -> str:
    """Llama 3's published layouts beside what is predicted for them, and Llama-3-8B on eight and on 1,024 GPUs."""
    mesh, speed = "GPUs | TP | CP | PP | DP | length | batch/DP | tokens/batch", "s/step | TFLOP/s per GPU | MFU"
    lines = []
    rows: list[tuple[Decoder, Arrangement, str]] = [
        (one.decoder, one.arrangement, f"{one.tflops_per_gpu:.0f} TFLOP/s, {one.mfu:.0%}") for one in LLAMA_3
    ]
    rows += [
        (LLAMA_3_8B, Arrangement(tp=1, cp=1, pp=1, dp=8, length=8192, batch_per_dp=4), ""),
        (LLAMA_3_8B, Arrangement(tp=1, cp=1, pp=1, dp=1024, length=8192, batch_per_dp=1), ""),
    ]
    for decoder, one, published in rows:
        found = predict(decoder, one)
        lines.append([
            decoder.name, one.num_gpus, one.tp, one.cp, one.pp, one.dp, one.length, one.batch_per_dp,
            f"{one.tokens_per_step / 1e6:.1f}M", f"{found.seconds:.2f}", f"{found.flops_per_gpu / 1e12:.0f}",
            f"{found.mfu:.0%}", published,
        ])  # fmt: skip
    return markdown.table(f"model | {mesh} | {speed} | published", lines)
