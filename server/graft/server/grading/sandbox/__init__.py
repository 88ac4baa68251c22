"""Where graders' Python runs: no file, no network, little memory, little time."""
