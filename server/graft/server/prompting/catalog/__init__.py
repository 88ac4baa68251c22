"""Programs' versions and labels: kept in tables of their own, resolved from memory."""
