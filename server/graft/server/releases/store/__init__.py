"""Transactions over rollouts."""
