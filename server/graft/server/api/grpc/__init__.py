"""gRPC: messages in, messages out."""
