"""Trainings as resources: what was asked, how far it is, who works on it."""
