"""`python -m replay`: the same as the `replay` command."""

from __future__ import annotations

import sys

from replay.cli import main

sys.exit(main())
