"""vLLM's OpenAI serving classes over prompts that the fronts have tokenized, with our log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionLogProbs, ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionLogProbs, CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.renderers.online_renderer import OnlineRenderer

from graft.server.engine.tools.families import Parsers
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.logprobs import chat_logprobs, completion_logprobs
from graft.server.engine.vllm.requests import Chat, Completion


class ChatServing(OpenAIServingChat):
    """Answers chats, their calls and reasoning read by a family's parsers."""

    def __init__(
        self, engine: VllmEngine, llm: Any, models: OpenAIServingModels, parsers: Parsers | None = None
    ) -> None:
        """`llm` is the engine's, or stands for it."""
        parsers = parsers or Parsers()
        super().__init__(
            llm,
            models,
            "assistant",
            online_renderer=_renderer(engine),
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
            enable_prompt_tokens_details=True,
            reasoning_parser=parsers.reasoning or "",
            enable_auto_tools=parsers.tool is not None,
            tool_parser=parsers.tool,
        )
        self._engine = engine

    async def render_chat_request(self, request: ChatCompletionRequest) -> Any:
        assert isinstance(request, Chat)
        self._preflight(request.n or 1)
        if self.parser_cls is not None:
            # Of what a parser would have changed in the request, its tokens are needed; forms are ours to write.
            parser = self._make_parser(request, self.renderer.get_tokenizer(), request.chat_template_kwargs)
            told = parser.adjust_request(request.model_copy())
            request.skip_special_tokens = told.skip_special_tokens
        return request.messages, request.inputs()

    def _create_chat_logprobs(
        self,
        token_ids: Sequence[int],
        top_logprobs: Sequence[Mapping[int, Any] | None],
        tokenizer: object,
        num_output_top_logprobs: int | None = None,
        logprob_token_ids: list[int] | None = None,
        return_as_token_id: bool | None = None,
    ) -> ChatCompletionLogProbs:
        return chat_logprobs(token_ids, top_logprobs, num_output_top_logprobs or 0, self._engine.bytes_of)


class CompletionServing(OpenAIServingCompletion):
    """Goes on with texts."""

    def __init__(self, engine: VllmEngine, llm: Any, models: OpenAIServingModels) -> None:
        """`llm` is the engine's, or stands for it."""
        super().__init__(
            llm,
            models,
            online_renderer=_renderer(engine),
            request_logger=None,
            enable_prompt_tokens_details=True,
        )
        self._engine = engine

    async def render_completion_request(self, request: CompletionRequest) -> Any:
        assert isinstance(request, Completion)
        self._preflight(request.n or 1)
        return request.inputs()

    def _create_completion_logprobs(
        self,
        token_ids: Sequence[int],
        top_logprobs: Sequence[Mapping[int, Any] | None],
        num_output_top_logprobs: int,
        tokenizer: object,
        logprob_token_ids: list[int] | None = None,
        initial_text_offset: int = 0,
        return_as_token_id: bool | None = None,
    ) -> CompletionLogProbs:
        return completion_logprobs(token_ids, top_logprobs, self._engine.bytes_of)


def _renderer(engine: VllmEngine) -> OnlineRenderer:
    """vLLM's classes want one; what it would render is rendered already."""
    return OnlineRenderer(
        engine.llm.model_config,
        engine.llm.renderer,
        request_logger=None,
        chat_template=None,
        chat_template_content_format="auto",
    )
