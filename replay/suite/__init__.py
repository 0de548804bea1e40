"""The regression suite: incidents that were understood, kept so that they never surprise anyone again.

A suite is a folder: ``suite.toml`` and one bundle a case. It is data, and untrusted: it names no code and no paths.
Nothing is imported here, so that the pytest plugin costs a test run nothing.
"""
