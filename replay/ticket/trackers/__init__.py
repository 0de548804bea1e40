"""One module a tracker: its API, as documented, and nothing else."""
