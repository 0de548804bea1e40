"""An incident as one page: a single HTML file that needs no network, no server and no script."""
