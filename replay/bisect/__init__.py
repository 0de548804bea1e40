"""Which setting explains the recorded bits: factors, the cells that were tried, and the smallest set that suffices."""
