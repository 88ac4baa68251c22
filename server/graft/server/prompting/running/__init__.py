"""Programs run: from a reference and its variables to an answer that names who gave it."""
