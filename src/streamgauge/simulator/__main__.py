"""`python -m streamgauge.simulator '{"port": 0}'`: one simulator, its options as one JSON object.

The first line on standard output is {"ready": true, "port": N}. People use `streamgauge sim`; this is for programs.
"""

from __future__ import annotations

import json
import sys

from streamgauge.errors import StreamgaugeError
from streamgauge.simulator.options import Options
from streamgauge.simulator.server import serve


def main(arguments: list[str]) -> int:
    """Serve; 0 when told to stop, the error's exit code where it could not start."""
    try:
        options = Options.from_json(arguments[0] if arguments else "{}")
        serve(options, lambda port: print(json.dumps({"ready": True, "port": port}), flush=True))
    except StreamgaugeError as e:
        print(f"error: {e}", file=sys.stderr)
        return int(e.exit)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
