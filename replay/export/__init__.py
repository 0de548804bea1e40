"""Recorded frames in the formats of tools that people use already."""
