"""From statistics of a window of frames to a named cause, or unknown."""
