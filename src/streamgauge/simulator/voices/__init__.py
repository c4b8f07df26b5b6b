"""The four APIs as the simulator speaks them, in one visible dict."""

from __future__ import annotations

from streamgauge.simulator.voices.ai_sdk import AI_SDK
from streamgauge.simulator.voices.anthropic import ANTHROPIC
from streamgauge.simulator.voices.api import Api
from streamgauge.simulator.voices.gemini import GEMINI
from streamgauge.simulator.voices.openai_chat import OPENAI_CHAT

APIS: dict[str, Api] = {api.name: api for api in (OPENAI_CHAT, ANTHROPIC, GEMINI, AI_SDK)}

__all__ = ["AI_SDK", "ANTHROPIC", "APIS", "GEMINI", "OPENAI_CHAT", "Api"]
