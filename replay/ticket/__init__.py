"""Incidents on tickets: what is said, in the language of each tracker, and how it gets there."""
