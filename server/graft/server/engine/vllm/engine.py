"""The `Engine` on vLLM's `AsyncLLM`, whose core runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import vllm
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from graft.adapters.errors import GraftError
from graft.adapters.folder.head import MAX_LABELS
from graft.adapters.store.session_folder import SessionFolder
from graft.server.engine.engine import (
    MIN_ROOM_TOKENS,
    ContinuationScore,
    Delta,
    EngineAdapter,
    EngineDied,
    EngineError,
    EngineInfo,
    HeadOutputs,
    InvalidRequest,
    LoadFailed,
    Sampling,
)
from graft.server.engine.lora.slot_image import SlotLayout, layout_of
from graft.server.engine.lora.slot_images import SlotImages
from graft.server.engine.process.process import EngineProcess
from graft.server.engine.process.shared_names import SharedNames
from graft.server.engine.schema.structured_outputs import structure_within
from graft.server.engine.tokenizer.token_bytes import TokenBytes
from graft.server.engine.vllm import conversion
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.heartbeat import Heartbeat
from graft.server.engine.vllm.inside.managers import manager_of
from graft.server.engine.vllm.soft_prompts import SoftPrompts, num_virtual_tokens


class VllmEngine:
    """One running engine; it is not restarted but replaced (see `supervisor`)."""

    def __init__(
        self,
        llm: AsyncLLM,
        settings: EngineSettings,
        heartbeat: Heartbeat,
        folder: SessionFolder,
        names: SharedNames,
    ) -> None:
        """`folder` and `names` are the engine's own and end with it."""
        self._heartbeat = heartbeat
        self.llm = llm
        self._settings = settings
        self._folder = folder
        self._names = names
        self._process = EngineProcess(llm.engine_core.resources.engine_manager.processes[0], self._fail_all)
        self._lora_kernel = ""
        self._instruction_sets: dict[str, str] = {}
        self._images: SlotImages | None = None

    async def look_at_processor(self) -> None:
        """Ask the worker what it uses of the processor; only a CPU's engine has something to tell."""
        if current_platform.is_cpu():
            self._instruction_sets = (await self._ask(self.llm.collective_rpc("graft_processor_report")))[0]

    async def check_lora(self) -> int:
        """Ask each worker what serves adapters there, and take its slots' layout. Returns the bytes of all slots, of
        the worker that has most. Raises `EngineError`.
        """
        reports = await self._ask(self.llm.collective_rpc("graft_lora_report"))
        self._lora_kernel = reports[0].get("kernel", reports[0]["manager"])
        wanted = manager_of(current_platform)
        if others := {report["manager"] for report in reports} - {wanted}:
            raise EngineError(
                f"the engine's workers serve adapters with {', '.join(sorted(others))}, not with {wanted}: on a CPU "
                "rows of the base would be answered by an adapter. Is graftserve installed with its entry points "
                "(`pip install`), and does nothing else set VLLM_PLUGINS?"
            )
        layout = layout_of(reports)
        if layout is not None:
            try:
                self._images = await asyncio.to_thread(self._make_images, layout)
            except (OSError, GraftError) as error:
                raise EngineError(f"there is no place for adapters beside the slots: {error}") from error
        return max(int(report["slot_bytes"]) for report in reports)

    def _make_images(self, layout: SlotLayout) -> SlotImages:
        folder = self._settings.host_folder or self._folder.path / "slots"
        return SlotImages(folder, layout, max_bytes=self._settings.host_bytes)

    async def generate(
        self,
        prompt_token_ids: Sequence[int],
        sampling: Sampling,
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> AsyncIterator[Delta]:
        room = self.max_model_tokens - num_virtual_tokens(adapter)
        conversion.check_token_ids(prompt_token_ids, self._vocab_size, room)
        params = conversion.sampling_params(sampling, await self._structure(sampling, room - len(prompt_token_ids)))
        stream = self._generate(prompt_token_ids, params, request_id, adapter, cache_salt)
        async with contextlib.aclosing(stream):
            async for output in stream:
                for delta in conversion.deltas(output, self.bytes_of):
                    yield delta

    async def _structure(self, sampling: Sampling, left_tokens: int) -> Mapping[str, Any] | None:
        if sampling.json_schema is None and sampling.regex is None and not sampling.options:
            return None
        room = int((min(sampling.max_tokens, left_tokens) - 1) * self.characters_per_token)
        return await asyncio.to_thread(structure_within, sampling, room)

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        continuation_token_ids: Sequence[int],
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> ContinuationScore:
        ids = [*prompt_token_ids, *continuation_token_ids]
        conversion.check_scored(prompt_token_ids, continuation_token_ids)
        num_virtual = num_virtual_tokens(adapter)
        conversion.check_token_ids(ids, self._vocab_size, self.max_model_tokens - num_virtual)
        limit = num_virtual + len(prompt_token_ids) - 1
        output = await self._last(ids, conversion.scoring_params(limit), request_id, adapter, cache_salt)
        conversion.check_limit(output, limit)
        return conversion.score(output, ids, len(prompt_token_ids), self.bytes_of)

    async def classify(
        self, prompt_token_ids: Sequence[int], *, request_id: str, adapter: EngineAdapter, cache_salt: str | None = None
    ) -> HeadOutputs:
        if adapter.head is None:
            raise InvalidRequest(f"{adapter.digest} brings no head", field="model")
        conversion.check_token_ids(prompt_token_ids, self._vocab_size, self.max_model_tokens)
        params = conversion.classifying_params(adapter.head.num_labels)
        output = await self._last(prompt_token_ids, params, request_id, adapter, cache_salt)
        return conversion.head_outputs(output, adapter.head.num_labels)

    async def _last(self, *request: Any) -> Any:
        last: Any = None
        async with contextlib.aclosing(self._generate(*request)) as outputs:
            async for output in outputs:
                last = output
        return last

    async def _generate(
        self,
        ids: Sequence[int],
        params: SamplingParams,
        request_id: str,
        adapter: EngineAdapter | None = None,
        cache_salt: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        prompt = self.soft_prompts.input(ids, adapter=adapter, cache_salt=cache_salt)
        with conversion.engine_errors():
            stream = self.llm.generate(prompt, params, request_id, lora_request=self.lora_request(adapter))
            async with contextlib.aclosing(stream):
                async for output in stream:
                    yield output

    def prepare(self, digest: str, path: Path) -> None:
        if self._images is not None:
            self._images.prepare(digest, path)

    async def load(self, adapter: EngineAdapter) -> None:
        if adapter.num_virtual_tokens:
            await asyncio.to_thread(self.soft_prompts.load, adapter)
            return
        images = self._images
        try:
            with images.held(adapter.digest) if images is not None else contextlib.nullcontext():
                if images is not None:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(images.thread, images.make, adapter.digest, adapter.path)
                await self._ask(self.llm.add_lora(self.lora_request(adapter)))
        except EngineDied:
            raise
        except Exception as error:
            if self.gone:
                raise EngineDied("the engine's process ended; it is being replaced, try again") from error
            # Some of several workers may have taken what another one refused.
            await self._ask(self.llm.remove_lora(adapter.engine_id))
            raise LoadFailed(f"the engine refused adapter {adapter.digest}: {error}") from error

    def lora_request(self, adapter: EngineAdapter | None) -> LoRARequest | None:
        """The digest is the name and the path follows from it, so the prefix cache can never mix two versions. None for
        a soft prompt, which is no LoRA.
        """
        if adapter is None or adapter.num_virtual_tokens:
            return None
        path = adapter.path if self._images is None else self._images.path(adapter.digest)
        return LoRARequest(lora_name=adapter.digest, lora_int_id=adapter.engine_id, lora_path=str(path))

    async def unload(self, adapter: EngineAdapter) -> None:
        if adapter.num_virtual_tokens:
            self.soft_prompts.unload(adapter)
            return
        await self._ask(self.llm.remove_lora(adapter.engine_id))

    async def loaded(self) -> frozenset[int]:
        return self.soft_prompts.engine_ids | frozenset(await self._ask(self.llm.list_loras()))

    async def _ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call to the engine's process, which vLLM never ends if that process dies meanwhile."""
        answer = asyncio.ensure_future(call)
        await asyncio.wait((answer, self._process.ended), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            raise EngineDied("the engine's process ended; it is being replaced, try again")
        with conversion.engine_errors():
            return answer.result()

    async def info(self) -> EngineInfo:
        return EngineInfo(
            pid=self.pid,
            engine_version=f"vllm {vllm.__version__}",
            lora_kernel=self._lora_kernel,
            max_model_tokens=self.max_model_tokens,
            num_slots=self._settings.num_slots,
            max_rank=self._settings.rank_step,
            max_virtual_tokens=self.soft_prompts.max_tokens,
            max_labels=self._max_labels,
            num_cache_blocks=self.llm.vllm_config.cache_config.num_gpu_blocks,
            instruction_sets=self._instruction_sets,
        )

    async def canary(self) -> None:
        """One token of the base, or any other sign of life: in a full batch the token waits its turn."""
        signs = {asyncio.ensure_future(self._one_token()), asyncio.ensure_future(self._heartbeat.next())}
        try:
            done, _ = await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
            for sign in done:
                sign.result()
        finally:
            for sign in signs:
                sign.cancel()

    async def _one_token(self) -> None:
        params = SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        async for _ in self._generate([0], params, f"canary-{os.urandom(8).hex()}"):
            pass

    @property
    def _max_labels(self) -> int:
        """Heads come in slot images, and the runner that knows of them is the one on CPUs."""
        if self._images is None or not current_platform.is_cpu():
            return 0
        return min(MAX_LABELS, self._vocab_size - 1)

    @functools.cached_property
    def soft_prompts(self) -> SoftPrompts:
        """Those that are loaded."""
        config = self.llm.model_config
        room = self.max_model_tokens - MIN_ROOM_TOKENS if config.enable_prompt_embeds else 0
        return SoftPrompts(dtype=config.dtype, width=config.get_inputs_embeds_size(), max_tokens=room)

    async def embeddings(self, ids: Sequence[int]) -> list[list[float]]:
        """Of token ids, by the model's own table, as a soft prompt would hold them."""
        found = await self._ask(self.llm.collective_rpc("graft_embeddings", args=(list(ids),)))
        embedded: list[list[float]] = next(filter(None, found))
        return embedded

    @functools.cached_property
    def bytes_of(self) -> TokenBytes:
        """What each token stands for."""
        return TokenBytes(self.llm.get_tokenizer())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether the engine's process has ended or is being ended. vLLM notices later than we may."""
        return self._process.ended.done() or bool(self.llm.errored)

    def on_death(self, callback: Callable[[str], None]) -> None:
        """Call back once, in this loop, when the engine's process has ended, whatever ended it."""
        self._process.on_death(callback)

    def _fail_all(self) -> None:
        """End every waiting stream. vLLM does so too, unless it is shut down first: then they would wait for ever."""
        self.llm.output_processor.propagate_error(EngineDeadError())

    async def close(self) -> None:
        self._process.expect_end()
        if (handler := getattr(self.llm, "output_handler", None)) is not None:
            handler.cancel()  # or vLLM would report the end of its process as a fault
        await asyncio.to_thread(self._end)
        self._fail_all()
        if self._images is not None:
            await asyncio.to_thread(self._images.close)
        await asyncio.to_thread(self._folder.close)

    def _end(self) -> None:
        self._process.kill()
        self.llm.shutdown(timeout=0.0)
        self._names.close()

    @property
    def _vocab_size(self) -> int:
        return int(self.llm.model_config.get_vocab_size())

    @functools.cached_property
    def characters_per_token(self) -> float:
        """The median over part of the vocabulary: 1 where tokens are characters, about 6 where they are words."""
        size = self._vocab_size
        lengths = sorted(len(self.bytes_of(token_id)) for token_id in range(0, size, max(1, size // 500)))
        return float(max(1, lengths[len(lengths) // 2]))

    @property
    def num_computed_prompt_tokens(self) -> int:
        """Tokens of prompts that were not in the cache, so far."""
        return self._heartbeat.num_computed_prompt_tokens

    @property
    def block_tokens(self) -> int:
        """Tokens per block of the KV cache: prompts share whole blocks."""
        return int(self.llm.vllm_config.cache_config.block_size)

    @property
    def max_model_tokens(self) -> int:
        return int(self.llm.model_config.max_model_len)
