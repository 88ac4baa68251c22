"""What can be chosen of rows, by the words of the settings."""

from __future__ import annotations

REFUSE, DROP, KEEP_START, KEEP_END, SPLIT = "refuse", "drop", "keep_start", "keep_end", "split"
LONG_ROWS = (REFUSE, DROP, KEEP_START, KEEP_END, SPLIT)
"""What becomes of a row that is too long."""
ALL, LAST = "all", "last"
TURNS = (ALL, LAST)
"""Which of a conversation's answers are learned, of those that have no weight 0."""
