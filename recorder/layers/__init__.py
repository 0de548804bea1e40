"""Digests of a model's layers: small enough to keep, exact enough to tell where two runs part."""
