"""Privacy: levels, redactors, scrubbing, and what of it reaches a bundle."""
