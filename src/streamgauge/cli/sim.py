"""`streamgauge sim`: the simulated provider, for a demo, for one's own tests, for trying out a failure.

Rules: options mirror `simulator.options.Options`; what they mean is decided and checked there. The simulator is
imported when the command runs, so that help stays quick.
"""

from __future__ import annotations

import re

import click

EXAMPLES = """\b
Examples:
  streamgauge sim
  streamgauge sim --port 8484 --log truth.jsonl
  streamgauge sim --fault drop=0.01 --fault stall=0.02:5s --fault 429=0.1:retry-after=2
  streamgauge sim --capacity 50 --queue 100 --slowdown 0.01
  streamgauge sim --leak-mb-per-hour 200 --for 10m
  streamgauge sim --memory leak=400,saw=30:20      told by /probe; the process itself stays small
\b
One request can ask for its own answer or fault:
  -H 'X-Sim-Script: [["wait",300],["text","Hello "],["stall",5000],["finish"]]'
  -H 'X-Sim-Fault: truncate'
and its model can carry a schedule: sim-t300-i20-n100 (300 ms, then 100 tokens 20 ms apart).
"""
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds out of 60s, 10m, 250ms; a bare number is seconds."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; write 60s, 10m or 250ms")
    return float(found.group(1)) * SECONDS[found.group(2)]


def _fault_list(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print every fault and end."""
    if not value or ctx.resilient_parsing:
        return
    from streamgauge.simulator.faults import FAULTS

    for name, (_, what) in FAULTS.items():
        click.echo(f"{name:14}{what}")
    click.echo(
        f"{'400 to 599':14}that HTTP status, in the provider's shape (:retry-after=2): http_error, rate_limited..."
    )
    ctx.exit()


@click.command("sim", epilog=EXAMPLES, context_settings={"max_content_width": 110})
@click.option(
    "--host", default="localhost", show_default=True, help="Address; localhost: IPv4 and IPv6; all: every one."
)
@click.option("--port", default=0, help="Port; 0 takes a free one.", show_default=True)
@click.option("--model", default="gpt-4o-mini", show_default=True, help="For requests that name no model.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same order of requests: same answers.")
@click.option(
    "--fault", "faults", multiple=True, metavar="NAME=RATE[:OPTION]", help="What goes wrong, and how often; repeatable."
)
@click.option(
    "--faults", "listed", is_flag=True, expose_value=False, is_eager=True, callback=_fault_list, help="List all faults."
)
@click.option("--reliability", default="1", show_default=True, help="Share that succeeds, or `strategy`.")
@click.option("--capacity", type=int, help="Generations at once; others wait.")
@click.option("--queue", type=int, help="How many may wait.  [default: any number]")
@click.option("--over", default=503, show_default=True, help="Status for those past the queue.")
@click.option("--slowdown", default=0.0, help="Stretch waits by this share for each open generation.")
@click.option("--leak-mb-per-request", default=0.0, help="Memory kept for ever by each request.")
@click.option("--leak-mb-per-hour", default=0.0, help="Memory kept for ever, steadily.")
@click.option(
    "--memory", metavar="SCRIPT", help="What /probe says of memory: base=100,leak=400,saw=30:20,limit=512 (MB)."
)
@click.option("--gzip", type=click.Choice(["flush", "buffered"]), help="Compress where the client accepts it.")
@click.option("--tls-cert", type=click.Path(), help="PEM certificate: serve https.")
@click.option("--tls-key", type=click.Path(), help="PEM key.")
@click.option("--require-key", metavar="KEY", help="Refuse requests without this key.")
@click.option("--idle", "idle_s", type=duration, help="Close idle connections after this.")
@click.option("--log", type=click.Path(), help="Write the truth log here.")
@click.option("--for", "for_s", type=duration, help="Stop after this.  [default: until Ctrl-C]")
def sim(**given: object) -> None:
    """Serve simulated models: OpenAI chat, Anthropic, Gemini and AI SDK streams with known truth.

    Ctrl-C ends it.
    """
    from streamgauge.simulator.options import Options
    from streamgauge.simulator.server import serve

    options = Options(**given)  # type: ignore[arg-type]  # click has the types; `check` looks at the values
    requests = serve(options, lambda port: _say_ready(options.host, port, options.tls_cert is not None))
    click.echo(
        f"Ended. {requests} requests answered." + (f" Truth log: {options.log}" if options.log else ""), err=True
    )


def _say_ready(host: str, port: int, tls: bool) -> None:
    """Where it listens, what it speaks, how to try it."""
    from streamgauge.simulator.voices import APIS

    name = f"[{host}]" if ":" in host else ("localhost" if host == "all" else host)
    url = f"{'https' if tls else 'http'}://{name}:{port}"
    lines = [f"Simulator: {url}", ""]
    lines += [f"  {api.name:12}{url}{api.paths[0]}" for api in APIS.values()]
    lines += ["", "Try:", f"  {APIS['openai-chat'].curl.format(url=url)}", ""]
    lines += ["Ctrl-C ends it. `streamgauge sim --help` shows faults, schedules, capacity."]
    click.echo("\n".join(lines))
