"""Pictures of a report: series in, one SVG element out.

Rules: a picture is a pure function of its series and its width. Each has a wide and a narrow form, because text that
is scaled down to a telephone cannot be read; the page shows one of them. A name from outside is never read as
mathematics. Lines differ by dash as well as by colour. How a drawing becomes part of a page is `svg`'s business.
One file a picture; what they share is in `habits`.
"""

from streamgauge.reports.charts.heat import heat
from streamgauge.reports.charts.levels import levels
from streamgauge.reports.charts.memory import MOST_PANELS, Growing, memory, name_of
from streamgauge.reports.charts.requests import (
    MOST_LINES,
    Limit,
    against_limit,
    ecdf,
    gaps,
    limits_of,
    steps_of,
    timeline,
    waterfall,
)
from streamgauge.reports.charts.strips import strips

__all__ = [
    "MOST_LINES", "MOST_PANELS", "Growing", "Limit", "against_limit", "ecdf", "gaps", "heat", "levels", "limits_of",
    "memory", "name_of", "steps_of", "strips", "timeline", "waterfall",
]  # fmt: skip
