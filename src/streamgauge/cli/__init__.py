"""The command line: one file a verb, imported when it is used, so that help stays quick.

Rules: progress on stderr, results on stdout. An error of the user's or of the target's is told in its own words with
its exit code; anything else is a bug of ours, told with its traceback (secrets taken out) and exit 70.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module

import click

from streamgauge import __version__
from streamgauge.errors import Exit, StreamgaugeError, UsageError

VERBS = {
    "init": "Write a commented streamgauge.toml, also from a request copied as cURL.",
    "check": "Send two short requests a target and tell, step by step, what answers.",
    "run": "Measure: run tests against a target and judge it.",
    "report": "Make a run's reports again from its folder.",
    "sim": "A simulated provider with known truth, also for your own tests.",
    "demo": "Run the tests against the simulator and write their reports.",
    "completion": "Print the shell completion script.",
}


ASKED = "_STREAMGAUGE_COMPLETE"
"""The variable by which a shell asks what could be typed."""


class _Verbs(click.Group):
    """Loads a verb's module when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of a first day."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb, imported now."""
        if cmd_name not in VERBS:
            return None
        command = getattr(import_module(f"streamgauge.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb when there is none."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            if args[0] == "help":
                hint = " Say streamgauge --help, or streamgauge VERB --help."
            ctx.fail(f"No verb {args[0]!r}.{hint} Verbs: {', '.join(VERBS)}.")
        return super().resolve_command(ctx, args)


EXAMPLES = """\b
Examples:
  streamgauge demo
  streamgauge init --url https://staging.example.com/api/chat --dialect ai-sdk
  streamgauge check
  streamgauge run ttft --preset pr
  streamgauge run --url http://127.0.0.1:8000/v1/chat/completions --model my-model
\b
Exit codes: 0 pass, 1 fail, 2 usage or spec, 3 inconclusive, 4 target unusable or our disk, 5 invalid measurement,
70 a bug of ours, 130 Ctrl-C, 143 SIGTERM.
"""


@click.group(
    cls=_Verbs, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, "-V", "--version", prog_name="streamgauge")
def cli() -> None:
    """Measure, judge and watch services that stream LLM tokens."""


def main() -> None:
    """The command `streamgauge`."""
    from streamgauge.cli.pipes import outlive_readers
    from streamgauge.cli.say import say
    from streamgauge.secrets import forget

    forget()
    outlive_readers()
    try:
        _readable(sys.argv[1:])
        if ASKED in os.environ:
            import_module("streamgauge.cli.completion")  # it tells click how its scripts ask
        code = cli.main(prog_name="streamgauge", standalone_mode=False)
    except click.exceptions.Abort:
        say("stopped", err=True)
        code = Exit.INTERRUPTED
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip(), err=True)
        code = error.exit_code
    except StreamgaugeError as error:
        say(f"streamgauge: {error}", err=True)
        code = error.exit
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except Exception:  # everything else is our own mistake, which must not look like one of the user or the target
        code = tell_bug()
    sys.exit(code if isinstance(code, int) else Exit.PASS)


def _readable(arguments: list[str]) -> None:
    """Refuse bytes that are no text: they could reach no report and no request."""
    for number, text in enumerate(arguments, 1):
        wrong = next((char for char in text if "\udc80" <= char <= "\udcff"), None)
        if wrong is not None:  # the rest of it may be a secret
            raise UsageError(f"argument {number}: byte 0x{ord(wrong) & 0xFF:02x} is not UTF-8; write it in UTF-8")


def tell_bug() -> Exit:
    """Whatever was not foreseen: say so loudly, without secrets."""
    import traceback

    from streamgauge.cli.say import say
    from streamgauge.secrets import is_sensitive, remember

    # PWD and OLDPWD are folders, not passwords.
    remember(*(value for name, value in os.environ.items() if is_sensitive(name) and not name.endswith("PWD")))
    say(traceback.format_exc(), err=True)
    say(
        f"This is a bug of streamgauge {__version__}, not of your service. The text above holds no secret known to us: "
        "please report it together with the command you gave.",
        err=True,
    )
    return Exit.INTERNAL
