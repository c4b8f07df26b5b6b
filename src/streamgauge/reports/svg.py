"""From matplotlib's file to a part of the page: one SVG element that takes its colours and fonts from the page.

Rules: no colour is fixed: pictures are drawn with stand-in colours (`HEX`), and CSS variables of the page are put in
their place, so light, dark and print each have their own. Text stays text. Ids carry the picture's name, so that many
fit on one page. The same drawing gives the same bytes. matplotlib is imported when the first picture is drawn; its
SVG writer and its objects are used, never pyplot and its state.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

WIDE, NARROW = 920, 352
"""Widths in px. The narrow one fits a telephone of 360 px with the page's margins."""

_PAINT = {
    "#0a0a01": "ink",
    "#0a0a02": "muted",
    "#0a0a03": "rule",
    "#0a0a04": "paper",
    "#0a0a05": "pass",
    "#0a0a06": "fail",
    "#0a0a07": "inconclusive",
    "#0a0a08": "invalid",
    "#0a0a11": "series-1",
    "#0a0a12": "series-2",
    "#0a0a13": "series-3",
    "#0a0a14": "series-4",
    "#0a0a15": "series-5",
    "#0a0a16": "series-6",
}
HEX = {name: code for code, name in _PAINT.items()}
"""CSS variable (without its dashes) to the colour to draw with."""

FONT = 12
"""px."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "streamgauge",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
    "font.family": ["DejaVu Sans"],
    "font.size": FONT,
    "legend.fontsize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "path.simplify": False,
}


def load() -> None:
    """Import what draws, so that processes forked after it need not."""
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401  (loaded for those who fork)


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context(_SETTINGS):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's browser has its own fonts
        yield


@dataclass(frozen=True, slots=True)
class Frame:
    """What a picture is called (`name` begins its ids), what it says to who cannot see it, and its width in px."""

    name: str
    title: str
    description: str
    width: int

    @property
    def wide(self) -> bool:
        """Whether there is room for the long form of texts."""
        return self.width >= WIDE


def picture(frame: Frame, height: int, draw: Callable[[Any], None], *, margins: bool = True) -> str:
    """The SVG element of what `draw` puts on a matplotlib Figure; without margins `draw` places its axes itself."""
    with _settings():
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(frame.width / 72, height / 72), layout="constrained" if margins else None)
        figure.patch.set_visible(False)
        draw(figure)
        out = io.StringIO()
        # What savefig does, less the drawing that it does first for the layout's sake: each drawing lays out by itself.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(out.getvalue(), frame)


_GEOMETRY = re.compile(r' (?:d|points|transform|x|y|width|height)="[^"]*"')
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_COMMAND = re.compile(r"\s*([MLCQz])\s*")
_FAMILY = re.compile(r"font: ([\d.]+)px [^;\"]*|font-family: [^;\"]*")


def _inline(svg: str, frame: Frame) -> str:
    """matplotlib's file without its header, styles and metadata, in the page's colours and fonts."""
    name = f"{frame.name}-{frame.width}"
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)  # it would reach the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<[^<>]*?\bid=")', rf"\1{name}-", svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = _FAMILY.sub(lambda match: f"font-size: {match[1]}px" if match[1] else "", svg)
    for code, paint in _PAINT.items():
        svg = svg.replace(code, f"var(--{paint})")
    svg = _GEOMETRY.sub(_shorter, svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    named = f"{name}-title {name}-desc" if frame.description else f"{name}-title"
    head = f'<svg {box[0]} role="img" aria-labelledby="{named}">'
    head += f'<title id="{name}-title">{html.escape(frame.title)}</title>'
    if frame.description:
        head += f'<desc id="{name}-desc">{html.escape(frame.description)}</desc>'
    return head + re.sub(r"\s*\n\s*", " ", svg[svg.index(">") + 1 :]).strip()


def _shorter(match: re.Match[str]) -> str:
    """An attribute with numbers to a tenth of a px; a path without the spaces that nobody needs."""
    text = _NUMBER.sub(_short, match[0])
    return _COMMAND.sub(r"\1", text) if text.startswith(' d="') else text


def _short(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")
