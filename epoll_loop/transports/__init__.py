"""Transports: what a protocol writes to, and what feeds it."""
