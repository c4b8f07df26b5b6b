"""GuideLLM, its defaults: ten worker processes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.peers.tool import Case, Told, Tool, not_installed, python_of, version_of, with_tokenizer


def command(case: Case) -> Sequence[str]:
    return (
        str(python_of("guidellm") / "guidellm"), "run",
        "--backend", f"kind=openai_http,target={case.base},model={case.model}",
        "--profile", f"kind=concurrent,streams={case.streams}",
        "--constraint", f"kind=max_requests,count={case.requests}",
        "--tokenizer", f"kind=huggingface_auto,model={with_tokenizer('guidellm', case)}",
        "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=100",
        "--output", "kind=json,path=report.json", "--disable-console-interactive",
    )  # fmt: skip


def read(case: Case) -> Told:
    """Its JSON: the quantiles of the requests that succeeded, and what it warns of."""
    benchmark = json.loads((case.folder / "report.json").read_text("utf-8"))["benchmarks"][0]
    found = benchmark["metrics"]["time_to_first_token_ms"]["successful"]["percentiles"]
    said = [" ".join(warning["message"].split()) for warning in benchmark["warnings"]]
    return Told((found["p50"], found["p95"], found["p99"]), tuple(said))


TOOL = Tool("GuideLLM", lambda: not_installed("guidellm"), lambda: version_of("guidellm", "guidellm"), command, read)
