"""Adapters, versions and aliases in a database."""
