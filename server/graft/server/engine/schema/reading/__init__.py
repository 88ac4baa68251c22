"""What a JSON Schema allows, as shapes by type."""
