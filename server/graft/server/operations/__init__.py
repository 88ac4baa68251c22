"""What those who run a server see and do."""
