"""Drift: references, detectors, onsets."""
