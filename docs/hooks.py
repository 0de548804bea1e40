"""What the site takes from outside of docs/: the written format, which stands beside its schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FORMAT = Path(__file__).parents[1] / "schemas" / "FORMAT.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the format's specification."""
    files.append(File.generated(config, "format.md", content=FORMAT.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links that lead to the specification in the repository lead to its page."""
    return markdown.replace("](../schemas/FORMAT.md", "](format.md")
