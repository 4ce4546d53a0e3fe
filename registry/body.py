"""Placeholder until the protocol helper's version arrives."""


class BodyCut(Exception):
    """The client left or stalled before its body ended."""
