"""What the command line tells a person: every message goes through here.

Rules: no secret that this process knows, and nothing that a terminal obeys, whatever words of a server, a system or a
spec stand in it. Colour is put on after that.
"""

from __future__ import annotations

import click

from streamgauge.secrets import everything
from streamgauge.wild import screen


def say(text: object = "", *, err: bool = False) -> None:
    """One message, on stdout or stderr."""
    click.echo(everything().text(screen(text)), err=err)


def coloured(text: str, **style: object) -> str:
    """`text` made safe, then styled (words of click.style)."""
    return click.style(everything().text(screen(text)), **style)  # type: ignore[arg-type]  # its words are many
