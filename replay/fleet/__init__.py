"""Many incidents against one candidate: what it fixes, and what it newly breaks."""
