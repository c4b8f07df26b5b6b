"""Shares as a sentence says them. What may lie far above the whole is told in times it, which nobody has to convert."""

from __future__ import annotations

MOST = 2.0
"""Above this it is told in times."""


def share_of(share: float, whole: str = "") -> str:
    """`61 %`, `6.1 times`; with the whole `61 % of what the burst raised`, `6.1 times what the burst raised`."""
    if share > MOST:
        told = f"{share:,.1f}" if share < 9.95 else f"{share:,.0f}"
        return f"{told} times {whole}".rstrip()
    return f"{100 * share:.0f} %" + (f" of {whole}" if whole else "")
