"""Causes and profiles."""
