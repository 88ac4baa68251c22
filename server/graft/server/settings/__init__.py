"""What can be set about a server."""
