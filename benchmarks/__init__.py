"""What recording, sealing and replaying cost: ``python -m benchmarks`` writes docs/performance.md."""
