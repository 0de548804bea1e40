"""The failure catalogue: what happened before, by cause, signature and likeness, in one SQLite file."""
