"""A pretraining on text, from its settings to a finished base in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from graft.training import baselines
from graft.training.baselines import NGrams
from graft.training.blocks import compile_blocks, keep_no_activations
from graft.training.checkpoint import complete_checkpoints, load_tensors, stored_tensors
from graft.training.corpus.text_rows import PackedText, TextRows
from graft.training.errors import CheckpointError, ConfigurationError
from graft.training.export import put_in_place
from graft.training.flops import flops_per_token, peak_flops
from graft.training.launch.processes import Processes, device_kind
from graft.training.lineage import code_version, data_digest
from graft.training.models import parts
from graft.training.optim import MakeOptimizers, Schedule, adamw, adamw_8bit, muon
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.assembly import DTYPES, Assembly, documents_of, tokenizer_of, tokens_of
from graft.training.pretrain.card import card
from graft.training.pretrain.settings import PretrainSettings
from graft.training.pretrain.table import layout_table
from graft.training.progress import Gauge, Listener
from graft.training.run import Run
from graft.training.settings import ELSEWHERE
from graft.training.telemetry import Prometheus, TensorBoard

JOB = "job.json"
_ELSEWHERE = ELSEWHERE | frozenset(
    (
        "gradient_accumulation_steps",
        "save_steps",
        "eval_steps",
        "gradient_checkpointing",
        "torch_compile",
        "validation",
        "text",
        "tensorboard",
        "metrics_port",
        "tokenizer",
    )
)
"""Settings that a resumed run may change, or whose effect is compared instead of their value."""


@dataclass(frozen=True, kw_only=True)
class PretrainText:
    """One training. Checkpoints, metrics and the tokenizer lie in ``work``, the finished base in ``output``."""

    settings: PretrainSettings
    work: Path
    output: Path

    @property
    def name(self) -> str:
        return self.output.name

    def absolute(self) -> Self:
        settings = self.settings

        def absolute(path: str | None) -> str | None:
            return path and str(Path(path).absolute())

        named = replace(
            settings,
            text=tuple(str(Path(path).absolute()) for path in settings.text),
            validation=absolute(settings.validation),
            tokenizer=absolute(settings.tokenizer),
            teacher=absolute(settings.teacher),
            model=absolute(settings.model),
        )
        return replace(self, settings=named, work=self.work.absolute(), output=self.output.absolute())

    def execute(self, processes: Processes, *, resume: bool) -> dict[str, float]:
        """Trains, writes the base, and returns the last metrics with those on held-out text.

        Every process calls this. What the user may have got wrong is found before anything is written.

        Raises:
            ConfigurationError, DataError, CheckpointError, Diverged: one line says what to change.
        """
        settings = self.settings
        documents = documents_of(settings.text)
        held_out = None if settings.validation is None else documents_of([settings.validation])
        self.check_work(resume=resume)
        assembly = Assembly.of(settings, self._tokenizer(documents))
        mesh = settings.mesh(processes.num)
        check_mesh(assembly, mesh, processes.num)
        data = assembly.data(documents, groups=mesh.dp)
        layout = processes.layout(mesh)
        self._claim(layout, mesh, resume)
        if layout.is_first:
            assembly.tokenizer.save_pretrained(self.work / "tokenizer")
        run = self._run(assembly, layout, data, held_out)
        metrics = run.execute(resume=resume)
        layout.wait()
        if layout.is_first:
            metrics |= self._finish(assembly, held_out)
            print(layout_table(assembly, mesh, self.work, device=processes.device))
        layout.wait()
        return metrics

    def plan(self, *, devices: int, device_bytes: float | None) -> str:
        """What it would take on so many devices, without starting it."""
        from graft.training.pretrain.plan import plan

        documents = documents_of(self.settings.text)
        assembly = Assembly.of(self.settings, self._tokenizer(documents))
        data = assembly.data(documents, groups=self.settings.mesh(devices).dp)
        return plan(assembly, data, devices=devices, device_bytes=device_bytes, device=device_kind())

    def check_work(self, *, resume: bool) -> None:
        """Raises ``CheckpointError`` where an earlier run would be written over."""
        if not resume and complete_checkpoints(self.work):
            raise CheckpointError(
                f"{self.work} holds checkpoints of an earlier run: add --resume, or choose another --work."
            )

    def _tokenizer(self, documents: Sequence[str]) -> PreTrainedTokenizerBase:
        """The one that this work began with, where it has begun."""
        saved = self.work / "tokenizer"
        if self.settings.tokenizer is None and self.settings.model is None and complete_checkpoints(self.work):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(saved)
            return tokenizer
        return tokenizer_of(self.settings, documents)

    def _claim(self, layout: Layout, mesh: Mesh, resume: bool) -> None:
        """Another training's checkpoints must not be continued."""
        now = self._identity(mesh)
        path = self.work / JOB
        if resume and complete_checkpoints(self.work):
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            changed = [
                f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]
            ]
            if changed:
                raise CheckpointError(
                    f"{self.work} holds checkpoints of another training: {'; '.join(changed)}. Take that back, or "
                    "choose another --work."
                )
        if layout.is_first:
            self.work.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(now, indent=1), encoding="utf-8")
        layout.wait()

    def _identity(self, mesh: Mesh) -> dict[str, Any]:
        """All that decides the result, on whatever mesh."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _ELSEWHERE}
        return {
            **settings,
            "micro-batches per step": self.settings.gradient_accumulation_steps * mesh.dp,
            "data": {Path(path).name: data_digest(Path(path)) for path in self.settings.text},
        }

    def _run(self, assembly: Assembly, layout: Layout, data: Any, held_out: Sequence[str] | None) -> Run:
        settings = self.settings
        model = assembly.model()
        if settings.gradient_checkpointing:
            keep_no_activations(model)
        dtype = DTYPES[settings.dtype]
        if isinstance(layout, Distributed):
            model = layout.place(model, dtype)
        else:
            model = model.to(layout.device, dtype)
        if settings.torch_compile:
            compile_blocks(model)
        num_steps = num_steps_of(settings, data)
        peak = peak_flops(layout.device)
        gauge = Gauge(
            flops_per_token=flops_per_token(assembly.skeleton(), settings.max_length),
            # Processes of one machine without GPUs share its cores.
            peak=peak * layout.num if peak is not None and layout.device == "cuda" else peak,
        )
        return Run(
            model=model,
            data=data,
            objective=assembly.objective(device=layout.device),
            optimizers=optimizers_of(settings),
            schedule=Schedule(
                num_steps=num_steps,
                warmup_steps=math.ceil(num_steps * settings.warmup_ratio),
                floor=settings.lr_min_ratio,
                shape=settings.lr_scheduler_type,
            ),
            folder=self.work,
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
            gauge=gauge,
            listeners=self._listeners,
            checkpoint_steps=settings.save_steps,
            average_decay=settings.ema_decay,
            held_out=assembly.held_out(held_out) if held_out is not None and settings.eval_steps else None,
            held_out_steps=settings.eval_steps,
        )

    def _listeners(self, start: int) -> list[Listener]:
        found: list[Listener] = []
        if self.settings.tensorboard:
            found.append(TensorBoard(self.work, start=start))
        if self.settings.metrics_port is not None:
            found.append(Prometheus(self.settings.metrics_port))
        return found

    def _finish(self, assembly: Assembly, held_out: Sequence[str] | None) -> dict[str, float]:
        """Writes the base from the last checkpoint, which holds it whole whatever the mesh was, and measures it."""
        model = whole_model(assembly, complete_checkpoints(self.work)[-1])
        model.to(DTYPES[self.settings.dtype])
        metrics = {} if held_out is None else self._measured(assembly, model, held_out)
        record = {
            "settings": {name: value for name, value in asdict(self.settings).items() if value is not None},
            "data": {Path(path).name: data_digest(Path(path)) for path in self.settings.text},
            "code_version": code_version(),
            "metrics": metrics,
        }

        def write(folder: Path) -> None:
            for part, one in parts(model).items():
                one.save_pretrained(folder / part)
            assembly.tokenizer.save_pretrained(folder)
            (folder / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            (folder / "README.md").write_text(card(self.output.name, assembly, model, metrics), encoding="utf-8")
            for path in folder.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)

        put_in_place(self.output, write)
        return metrics

    def _measured(self, assembly: Assembly, model: torch.nn.Module, held_out: Sequence[str]) -> dict[str, float]:
        """Of the finished model, and of counting models on the same tokens."""
        measure = assembly.held_out(held_out)
        seen = tokens_of(documents_of(self.settings.text), assembly.tokenizer)
        ngrams = NGrams(seen, vocab_size=len(assembly.tokenizer))
        return measure.measure(model) | baselines.measure(ngrams, measure.batches)


def check_mesh(assembly: Assembly, mesh: Mesh, num_processes: int) -> None:
    """Raises ``ConfigurationError`` with every reason why this model cannot be trained so."""
    settings = assembly.settings
    mesh.check(
        parts(assembly.skeleton())[""].config,
        num_processes=num_processes,
        batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
        length=settings.max_length,
    )
    reasons = []
    if settings.teacher is not None and (mesh.tp > 1 or mesh.pp > 1 or mesh.cp > 1):
        reasons.append("a teacher is not split: distil with dp_replicate and dp_shard")
    if settings.eval_steps is not None and mesh.pp > 1:
        reasons.append("eval_steps cannot be used with pp: a pipeline measures at the end only")
    if settings.optim != "adamw" and (mesh.tp > 1 or (mesh.dp_shard > 1 and mesh.zero_stage > 1)):
        reasons.append(f"{settings.optim} needs whole matrices; use adamw where they are split or sharded")
    if assembly.objective_name != "causal" and (mesh.pp > 1 or mesh.cp > 1):
        reasons.append(f"pp and cp compute next-token prediction only, not {assembly.objective_name}")
    if reasons:
        raise ConfigurationError(f"this mesh cannot be used: {'; '.join(reasons)}.")


def num_steps_of(settings: PretrainSettings, data: PackedText | TextRows) -> int:
    """Optimizer steps: what was said, or so many epochs."""
    return settings.max_steps or max(1, math.ceil(data.steps_per_epoch * settings.num_train_epochs))


def optimizers_of(settings: PretrainSettings) -> MakeOptimizers:
    kinds: Mapping[str, Callable[..., MakeOptimizers]] = {"adamw": adamw, "adamw_8bit": adamw_8bit, "muon": muon}
    return kinds[settings.optim](
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(settings.adam_beta1, settings.adam_beta2),
    )


def whole_model(assembly: Assembly, checkpoint: Path) -> torch.nn.Module:
    """The model of a checkpoint in one process, in float32: its running mean where it holds one."""
    model = assembly.model().float()
    stored = stored_tensors(checkpoint)
    kind = "average" if any(name.startswith("average/") for name in stored) else "master"
    load_tensors(
        checkpoint,
        {f"{kind}/{name}": parameter.detach() for name, parameter in model.named_parameters()},
    )
    return model
