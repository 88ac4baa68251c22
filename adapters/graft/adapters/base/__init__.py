"""One frozen model: its files, its identity, its forms."""
