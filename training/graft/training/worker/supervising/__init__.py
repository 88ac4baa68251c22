"""The worker's own process: it speaks with the server and starts, watches and ends what trains."""
