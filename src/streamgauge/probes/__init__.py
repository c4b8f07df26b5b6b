"""Probes: what the server itself looks like while load runs, above all its memory. See `kinds.KINDS`."""
