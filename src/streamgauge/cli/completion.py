"""`streamgauge completion`: the shell's completion script."""

from __future__ import annotations

import click


@click.command(
    epilog="""\b
Examples:
  streamgauge completion bash > ~/.local/share/bash-completion/completions/streamgauge
  streamgauge completion zsh  > "${fpath[1]}/_streamgauge"
  streamgauge completion fish > ~/.config/fish/completions/streamgauge.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; source it, or keep it where the shell looks."""
    from click.shell_completion import get_completion_class

    from streamgauge.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # Bash's script asks the installed bash for its version first, which is not needed to print it.
    source = kind(cli, {}, "streamgauge", "_STREAMGAUGE_COMPLETE")
    click.echo(source.source_template % source.source_vars())
