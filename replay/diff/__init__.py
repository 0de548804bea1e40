"""What changed from one bundle, or one replay's result, to another."""

from __future__ import annotations

from replay.diff.files import Unlike, compare_files
from replay.diff.finding import Finding

__all__ = ["Finding", "Unlike", "compare_files"]
