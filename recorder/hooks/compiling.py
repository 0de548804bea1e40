"""Notices that the host compiles an attached module into a graph, in which our hooks have no place.

What torch.compile or torch.export traces must stay what it would be without us, so the hooks vanish from it and the
calls of the graph are not seen. `stats` says so; the object that torch.compile returned can be attached instead.
"""

from __future__ import annotations

__all__ = ["note_compiling", "times_compiled"]

_times = 0


def times_compiled() -> int:
    """Return how often a hook of this process was met while a graph was traced, twice for most modules."""
    return _times


def note_compiling() -> bool:
    """Count it; runs while the graph is traced and leaves nothing in it."""
    global _times
    _times += 1
    return True


# What torch.compiler.assume_constant_result does, without the second that importing its compiler takes.
note_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]
