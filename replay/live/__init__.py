"""The incidents of a directory or bucket in the browser: a list that follows what arrives, and each one's page."""
