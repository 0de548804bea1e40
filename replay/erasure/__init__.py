"""What was recorded of somebody or something goes: from a sink and from spools, found by metadata.

A bundle all of whose frames match is deleted; one in which only some do is replaced by one without them. Whatever
cannot be read is named, since it may hold what is to go.
"""
