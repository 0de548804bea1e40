"""Tests of tickets: what is said, how it is filed, and that nothing in it acts."""
