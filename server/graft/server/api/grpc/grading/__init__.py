"""Grading over gRPC."""
