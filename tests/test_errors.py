"""Exit codes: a contract that CI scripts lean on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.errors import Exit, worst

ORDER = (70, 2, 130, 143, 1, 5, 4, 3, 0)


@given(st.lists(st.sampled_from(ORDER), min_size=1))
def test_of_several_results_the_gravest_is_the_exit_code(codes):
    assert worst(codes) == min(codes, key=ORDER.index)


def test_every_exit_code_has_its_place_and_no_result_has_none():
    assert set(ORDER) == {int(code) for code in Exit}
    with pytest.raises(ValueError, match="no exit codes"):
        worst([])
