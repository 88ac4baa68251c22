"""A server that is told to use less of the processor than it has answers as one that uses all of it."""

from __future__ import annotations

from pathlib import Path

from graft.client import Client
from tests.running import start_server, stop_server


def test_the_oldest_processors_kernels_answer_alike(client: Client, tmp_path: Path) -> None:
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "GRAFT_LORA_KERNEL": "avx2"}
    server = start_server(tmp_path, environment=limits)
    try:
        with Client(server.grpc) as narrow:
            info = narrow.info()
            assert (info.instruction_sets["torch"], info.instruction_sets["oneDNN"]) == ("AVX2", "AVX2")
            assert info.lora_kernel == "compiled (avx2)"
            for prompt in ("12+39?", "cat -> tac\nmelon -> nolem\nbird -> drib\nstone -> enots\nwater -> "):
                ask = {"max_tokens": 12, "stop": "\n"}
                assert narrow.generate(prompt, **ask).text == client.generate(prompt, **ask).text
    finally:
        assert stop_server(server) == 0
