"""What a version shows on held-out data, asked of the running server: by it the server decides whether it answers."""
