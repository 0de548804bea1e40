"""Models that change tensors of their own from call to call."""
