"""Every model of the matrix recorded under one setting and replayed from a shell with another."""
