"""What the command line tells a person: every message goes through here.

Rules: no secret that this process knows, and nothing that a terminal obeys, whatever words of a server, a system or a
spec stand in it. Colour is put on after that.
"""

from __future__ import annotations

import os
import sys

import click

from streamgauge.secrets import everything
from streamgauge.wild import screen


def say(text: object = "", *, err: bool = False) -> None:
    """One message, on stdout or stderr."""
    click.echo(everything().text(screen(text)), err=err)


NARROWEST, WIDEST, USUAL = 60, 120, 100
"""What lines are laid out for; where nothing is a terminal, the usual."""


def columns(*, err: bool = False) -> int:
    """How wide the lines may be that go there: by COLUMNS, else by the terminal."""
    told = os.environ.get("COLUMNS", "")
    wide = int(told) if told.isascii() and told.isdecimal() else 0
    if not wide:
        try:
            wide = os.get_terminal_size((sys.stderr if err else sys.stdout).fileno()).columns
        except (OSError, ValueError, AttributeError):  # no terminal, or nothing that a system knows
            wide = 0
    return min(max(wide or USUAL, NARROWEST), WIDEST)


def coloured(text: str, **style: object) -> str:
    """`text` made safe, then styled (words of click.style)."""
    return click.style(everything().text(screen(text)), **style)  # type: ignore[arg-type]  # its words are many
