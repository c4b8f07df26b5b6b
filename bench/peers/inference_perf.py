"""inference-perf, its defaults: as many workers as cores, 100 streams each. It needs Python 3.12."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from bench.peers.tool import Case, Told, Tool, counted, not_installed, python_of, version_of, with_tokenizer

_CONFIG = """\
load: {{type: concurrent, stages: [{{num_requests: {requests}, concurrency_level: {streams}}}]}}
api: {{type: completion, streaming: true}}
server: {{type: vllm, model_name: {model}, base_url: "{base}", ignore_eos: true}}
tokenizer: {{pretrained_model_name_or_path: {tokenizer}}}
data:
  type: random
  input_distribution: {{min: 16, max: 16, mean: 16, std_dev: 0, total_count: {requests}}}
  output_distribution: {{min: 100, max: 100, mean: 100, std_dev: 0, total_count: {requests}}}
report: {{request_lifecycle: {{summary: true, per_stage: false, per_request: false}}}}
storage: {{local_storage: {{path: report}}}}
"""


def command(case: Case) -> Sequence[str]:
    """It refuses chat with random prompts, so the older completions are asked for."""
    config = _CONFIG.format(
        requests=case.requests, streams=case.streams, model=case.model, base=case.base,
        tokenizer=with_tokenizer("inference-perf", case),
    )  # fmt: skip
    (case.folder / "config.yml").write_text(config, "utf-8")
    return (str(python_of("inference-perf") / "inference-perf"), "-c", "config.yml")


def read(case: Case) -> Told:
    """`summary_lifecycle_metrics.json`, in seconds; its log's errors, and what it did not send."""
    report = json.loads((case.folder / "report" / "summary_lifecycle_metrics.json").read_text("utf-8"))
    ttft = report["successes"]["latency"]["time_to_first_token"]
    said = list(counted(re.findall(r" - ERROR - (.{1,80})", case.output())))
    if report["successes"]["count"] < case.requests:
        said.append(f"{report['successes']['count']} of {case.requests} requests in its summary")
    return Told(tuple(ttft[name] * 1e3 for name in ("median", "p95", "p99")), tuple(said))


TOOL = Tool(
    "inference-perf",
    lambda: not_installed("inference-perf"),
    lambda: version_of("inference-perf", "inference-perf"),
    command,
    read,
)
