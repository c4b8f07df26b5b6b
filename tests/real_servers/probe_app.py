"""The shipped ASGI handler in a Starlette app: `python probe_app.py HANDLERS PORT`, under uvicorn.

POST /leak?mb=N keeps N MB for ever.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

sys.path.insert(0, sys.argv[1])
from asgi import probe  # it lies in the folder that was named

kept: list[bytes] = []


async def leak(request: Request) -> Response:
    """Keep it."""
    kept.append(b"\x01" * (int(request.query_params["mb"]) * 1_000_000))
    return Response(status_code=204)


app = Starlette()
app.add_route("/api/probe", probe)
app.add_route("/leak", leak, methods=["POST"])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
