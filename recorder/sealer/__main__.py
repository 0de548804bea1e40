"""`python -m recorder.sealer DIRECTORY`: what the recorder starts, once per ring directory."""

from __future__ import annotations

import sys

from recorder.sealer.process import main

sys.exit(main(sys.argv[1:]))
