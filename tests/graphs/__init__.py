"""Graphs that serve calls of several shapes, from the live model to the verdict."""
