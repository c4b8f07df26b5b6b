"""What the performance strategy asks for at each severity ("Escalation and Response"): its own words and order."""

from __future__ import annotations

from streamgauge.verdict import Severity

TITLES: dict[Severity, str] = {
    "P0": "P0, critical: TTFT p95 over 2 s, error rate over 5 %, or a crash",
    "P1": "P1, high: TTFT p95 over 1.5 s, or error rate over 2 %",
    "P2": "P2, medium: TTFT p95 over 1 s, error rate over 0.5 %, or any other criterion missed",
}
ACTIONS: dict[Severity, tuple[str, ...]] = {
    "P0": (
        "Page on-call engineer immediately",
        "Check provider status pages",
        "Review recent deployments",
        "Scale up immediately if needed",
        "Roll back if recent change caused it",
    ),
    "P1": (
        "Notify engineering team",
        "Investigate within 1 hour",
        "Plan mitigation within 4 hours",
        "Root cause analysis within 24 hours",
    ),
    "P2": (
        "Create ticket for investigation",
        "Investigate within 24 hours",
        "Plan optimization if needed",
        "Monitor for further degradation",
    ),
}
