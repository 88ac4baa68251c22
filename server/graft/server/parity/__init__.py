"""Is what is served what was trained."""
