"""A pretraining on text, from its settings to a finished base in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.shards.folder import TokenFolder
from graft.training.errors import CheckpointError, ConfigurationError, DataError
from graft.training.job.export import check_output, check_replaced
from graft.training.job.folder import DATA, Identity, JobFolder
from graft.training.launch.machine import Machine
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import Keeping, complete_checkpoints
from graft.training.loop.guard import Guard
from graft.training.loop.optim import MakeOptimizers, adamw, adamw_8bit, muon, schedule_of
from graft.training.loop.progress import Gauge
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import check_report_to, listeners
from graft.training.model.blocks import compile_blocks, recompute
from graft.training.model.casting import cast
from graft.training.model.cost.peaks import peak_of_all
from graft.training.model.deferred import Deferred
from graft.training.model.float8 import multiply_in_float8
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain import reading, text
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.corpus import Corpus, FoldersOfTokens, corpus_of, forget, made_in
from graft.training.pretrain.finished import Finished, layout_table, run_of
from graft.training.pretrain.identity import identity
from graft.training.pretrain.settings import PretrainSettings
from graft.training.pretrain.sources import documents_of, planned_tokenizer, saved_tokenizer, tokenizer_of
from graft.training.pretrain.text import HeldOutText
from graft.training.pretrain.told import report
from graft.training.report.report import FILE as PAGE
from graft.training.report.report import leave
from graft.training.runtime.device import device_kind
from graft.training.runtime.disk import written
from graft.training.runtime.memory import free_memory, holding


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What a training consists of before its model is made. Of its text the tokens are kept alone."""

    assembly: Assembly
    mesh: Mesh
    data: PackedText | TextRows
    held_out: HeldOutText | None
    identity: Identity
    tokens: Sequence[TokenFolder]

    def circumstances(self, device: str) -> Circumstances:
        """Of its model's attention."""
        return Circumstances(
            device=device,
            dtype=self.assembly.dtype,
            reads_documents=self.assembly.objective_name == "causal",
            is_split=self.mesh.cp > 1,
            is_staged=self.mesh.pp > 1,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainText:
    """One training. Checkpoints, metrics and the tokenizer lie in ``work``, the finished base in ``output``."""

    settings: PretrainSettings
    work: Path
    output: Path

    @property
    def name(self) -> str:
        return self.output.name

    @property
    def folder(self) -> JobFolder:
        return JobFolder(path=self.work, further=f"; --model {self.output} trains on what came out")

    def absolute(self) -> Self:
        settings = self.settings
        named = {name: getattr(settings, name) for name in ("validation", "tokenizer", "teacher", "model")}
        absolute: dict[str, Any] = {name: path and str(Path(path).absolute()) for name, path in named.items()}
        absolute["text"] = tuple(str(Path(path).absolute()) for path in settings.text)
        work, output = self.work.absolute(), self.output.absolute()
        return replace(self, settings=replace(settings, **absolute), work=work, output=output)

    def execute(self, processes: Processes, *, resume: bool) -> dict[str, float]:
        """Trains, writes the base, and returns the last metrics with those on held-out text.

        Every process calls this. What the user may have got wrong is found before anything is written.

        Raises:
            ConfigurationError, DataError, CheckpointError, Diverged: one line says what to change.
        """
        check_output(self.output, work=self.work, inputs=self._inputs())
        with self._leaving_nothing(processes):
            ready = self._ready(processes, resume=resume)
            wanted, circumstances = self.settings.attn_implementation, ready.circumstances(processes.device)
            choose_attention(ready.assembly.skeleton(), wanted, circumstances)
            self.folder.num_shared(ready.identity)
            own = ready.identity.run
            check_replaced(self.output, is_own=lambda folder: resume and run_of(folder) == own)
        settings = self.settings
        layout = processes.layout(ready.mesh, offloads=settings.cpu_offload, sums_each_batch=settings.sync_each_batch)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            if layout.is_first:
                forget(self.work, but=[folder.path.name for folder in ready.tokens])
                with written(self.work):
                    ready.assembly.tokenizer.save_pretrained(self.work / "tokenizer")
            gauge = gauge_of(ready.assembly, layout.device, layout.num)
            with holding(ready.assembly.size_said, remedy="train a smaller one; --plan says what a training takes"):
                run = self._run(ready, layout, gauge)
            metrics, trained = self._trained(run, ready, resume=resume)
            free_memory()
            # All stay until the first has written: a launcher ends those that are left when some have gone.
            metrics |= processes.by_first(lambda: self._finish(ready, layout.device, trained))
            if layout.is_first:
                print(layout_table(self.settings, ready.mesh, self.work, gauge))
                leave(
                    self.work / PAGE,
                    lambda: report(self.output, ready.assembly, ready.identity, metrics).write(self.work),
                )
        return metrics

    def _trained(self, run: Run, ready: _Ready, *, resume: bool) -> tuple[dict[str, float], nn.Module | None]:
        """The last metrics, and the model where each process has it as it will be loaded, whole and plain."""
        metrics = run.execute(resume=resume)
        model = run.step.finish()
        return metrics, model if ready.mesh.keeps_whole and not self.settings.float8 else None

    @contextlib.contextmanager
    def _leaving_nothing(self, processes: Processes) -> Iterator[None]:
        """What is refused inside leaves nothing in ``work`` that was made of the text for it."""
        before = made_in(self.work)
        try:
            yield
        except (ConfigurationError, DataError, CheckpointError):
            if processes.is_first:
                forget(self.work, but=before)
            raise

    def _ready(self, processes: Processes, *, resume: bool) -> _Ready:
        """Raises whatever the user may have got wrong, before a model is made."""
        settings = self.settings
        check_report_to(settings)
        corpus = corpus_of(settings.text)
        validation = None if settings.validation is None else documents_of([settings.validation])
        self.check_work(resume=resume)
        assembly = Assembly.of(settings, self._tokenizer(corpus, processes))
        mesh = settings.mesh(processes.num)
        assembly.check_mesh(mesh, processes.num)
        assembly.check_device(processes.device)
        read = reading.read(corpus, assembly, processes, self.work)
        data = text.rows(assembly, read.text, groups=mesh.dp)
        held_out = None if validation is None else HeldOutText.of(assembly, validation, read.sketches())
        own = identity(settings, assembly.tokenizer, mesh, schedule_of(settings, data), read.digests)
        return _Ready(assembly=assembly, mesh=mesh, data=data, held_out=held_out, identity=own, tokens=read.folders)

    def _finish(self, ready: _Ready, device: str, trained: nn.Module | None) -> dict[str, float]:
        finished = Finished(
            assembly=ready.assembly,
            checkpoint=complete_checkpoints(self.work)[-1],
            output=self.output,
            device=device,
            text_digests=ready.identity.values[DATA],
            run=ready.identity.run,
        )
        return finished.write(ready.data, ready.held_out, trained)

    def _inputs(self) -> list[Path]:
        settings = self.settings
        named = (*settings.text, settings.validation, settings.tokenizer, settings.model, settings.teacher)
        return [Path(one) for one in named if one is not None]

    def plan(self, machine: Machine) -> str:
        """What it would take there, without starting it."""
        from graft.training.pretrain.plan import plan

        if not self.settings.text:
            return plan(Assembly.of(self.settings, planned_tokenizer(self.settings)), None, machine)
        corpus, alone = corpus_of(self.settings.text), Processes(num=1, device=device_kind())
        assembly = Assembly.of(self.settings, self._tokenizer(corpus, alone))
        planned = reading.planned(corpus, assembly)
        data = text.rows(assembly, planned, groups=self.settings.mesh(machine.num).dp)
        return plan(assembly, data, machine)

    def check_work(self, *, resume: bool) -> None:
        self.folder.check(resume=resume)

    def _tokenizer(self, corpus: Corpus, processes: Processes) -> PreTrainedTokenizerBase:
        """The one that this work began with, where it has begun; what is learned from the text, one process learns."""
        settings, saved = self.settings, self.work / "tokenizer"
        if settings.tokenizer is None and settings.model is None and complete_checkpoints(self.work):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(saved)
            return tokenizer
        if settings.tokenizer or settings.model or settings.teacher:
            return tokenizer_of(settings, ())
        if isinstance(corpus, FoldersOfTokens):
            return saved_tokenizer(str(corpus.tokenizer))
        return processes.by_first(lambda: tokenizer_of(settings, corpus.each()))

    def _model(self, ready: _Ready, layout: Layout) -> nn.Module:
        """Where it is computed with, in its type."""
        assembly = ready.assembly
        made = assembly.deferred() if isinstance(layout, Distributed) else assembly.model()
        model = made.model if isinstance(made, Deferred) else made
        choose_attention(model, self.settings.attn_implementation, ready.circumstances(layout.device))
        if self.settings.float8:
            multiply_in_float8(model)
        recompute(model, str(self.settings.gradient_checkpointing))
        if isinstance(layout, Distributed):
            return layout.place(made, assembly.dtype)
        return cast(model, assembly.dtype, layout.device)

    def _run(self, ready: _Ready, layout: Layout, gauge: Gauge) -> Run:
        settings, assembly, held_out = self.settings, ready.assembly, ready.held_out
        model = self._model(ready, layout)
        if layout.device == "cuda" if settings.torch_compile is None else settings.torch_compile:
            compile_blocks(model)
        # From here on each data-parallel process draws for itself: dropout.
        torch.manual_seed(settings.seed + layout.share.index)
        step = Step(
            model,
            objective=assembly.objective(device=layout.device),
            optimizers=optimizers_of(settings),
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
            average_decay=settings.ema_decay,
        )
        return Run(
            step=step,
            data=ready.data,
            schedule=ready.identity.schedule,
            learning_rate=settings.learning_rate,
            guard=Guard(sigmas=settings.spike_sigmas),
            folder=self.work,
            gauge=gauge,
            listeners=lambda step: listeners(self.work, settings, start=step.number),
            keeping=Keeping.of(settings),
            checkpoint_steps=settings.save_steps,
            held_out=held_out.measure if held_out is not None and settings.eval_steps else None,
            held_out_steps=settings.eval_steps,
        )


def gauge_of(assembly: Assembly, device: str, num_processes: int) -> Gauge:
    return Gauge(flops_per_token=assembly.flops_per_token(), peak=peak_of_all(device, num_processes))


def optimizers_of(settings: PretrainSettings) -> MakeOptimizers:
    kinds: Mapping[str, Callable[..., MakeOptimizers]] = {"adamw": adamw, "adamw_8bit": adamw_8bit, "muon": muon}
    return kinds[settings.optim](weight_decay=settings.weight_decay, betas=(settings.adam_beta1, settings.adam_beta2))
