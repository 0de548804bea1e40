"""Thin adapters to serving frameworks, each with its own optional extra; nothing here is imported by the recorder."""
