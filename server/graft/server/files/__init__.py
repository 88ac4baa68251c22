"""Files that tenants upload: data to learn from, and results."""
