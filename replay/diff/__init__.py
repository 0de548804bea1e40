"""What changed from one bundle, or one replay's result, to another."""
