"""What libraries' errors become in a line."""

from __future__ import annotations

import pytest

from graft.training.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "one"),
        (
            ValueError("Validation error for field 'hidden_size':\n    TypeError: no int\nmore"),
            "Validation error for field 'hidden_size': TypeError: no int",
        ),
        (ValueError("ends here:"), "ends here:"),
        (EOFError(), "EOFError()"),
    ],
)
def test_a_line_says_what_went_wrong(error: Exception, said: str) -> None:
    assert first_line(error) == said
