from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justdub.dubbing.size import check_size, parse_size, working_size
from justdub.errors import UsageError


@pytest.mark.parametrize(
    ("aspect", "area", "expected"),
    [
        (Fraction(16, 9), 960 * 544, (960, 544)),
        (Fraction(9, 16), 960 * 544, (544, 960)),
        (Fraction(1), 96 * 96, (96, 96)),
        (Fraction(9, 16), 96 * 96, (64, 128)),
    ],
)
def test_known_sizes(aspect: Fraction, area: int, expected: tuple[int, int]) -> None:
    assert working_size(aspect, area, 32) == expected


@given(st.fractions(Fraction(1, 4), Fraction(4)), st.sampled_from([96 * 96, 512 * 512, 960 * 544]))
def test_sizes_lie_on_the_grid_near_area_and_shape(aspect: Fraction, area: int) -> None:
    width, height = working_size(aspect, area, 32)
    assert width % 32 == height % 32 == 0
    assert 0.4 < width * height / area < 2.5
    assert 0.5 < width / height / aspect < 2


def test_parse() -> None:
    assert parse_size("960x544") == parse_size("960X544") == (960, 544)
    for bad in ("960", "axb", "960x", "1x2x3"):
        with pytest.raises(UsageError):
            parse_size(bad)


@pytest.mark.parametrize("size", [(100, 96), (0, 32), (-32, 32), (8192, 32)])
def test_off_the_grid(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"try: --size \d+x\d+"):
        check_size(size, 32)
