"""What is normal for a camera, in one small file: what drift is measured against and causes are named by."""

from __future__ import annotations

from recorder.drift.file import MAX_FILE_BYTES
from recorder.profile.diagnosis import Diagnosis
from recorder.profile.profile import Profile

__all__ = ["MAX_FILE_BYTES", "Diagnosis", "Profile"]
