"""gRPC and HTTP: thin; requests are parsed and checked here before anything is held for them."""
