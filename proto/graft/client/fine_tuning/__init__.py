"""Files to learn from, and jobs that learn from them."""
