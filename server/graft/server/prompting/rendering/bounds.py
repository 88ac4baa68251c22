"""What server and template process agree on. Imports nothing: the process holds as little as it can."""

CPU_SECONDS = 0.2
"""Of processor time for one request. A process that waits for a busy machine is not to blame."""
MEMORY_BYTES = 256 << 20
"""Of address space, of which the interpreter takes about 40 MB."""
MEMORY_CODE = 12
"""The process's exit code where its memory was not enough (ENOMEM's number)."""
LENGTH_BYTES = 4
"""Before each message, its length, big-endian."""

PROGRAM, CHAT = "program", "chat"
"""Styles: of prompt programs, where a name without a value is an error; of chat templates, as transformers has it."""
