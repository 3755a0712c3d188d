"""The size that a clip is worked on at."""

from __future__ import annotations

import math
from fractions import Fraction

from justdub.errors import UsageError

MAX_SIDE = 4096


def parse_size(text: str) -> tuple[int, int]:
    """``WxH`` -> (width, height)."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise UsageError(f"size {text!r}", expected="WxH in pixels, such as 960x544") from None
    return width, height


def check_size(size: tuple[int, int], multiple: int) -> None:
    """A size that the user asked for must lie on the model's grid."""
    width, height = size
    if not all(multiple <= side <= MAX_SIDE and side % multiple == 0 for side in size):
        nearest = "x".join(str(min(max(round(side / multiple), 1) * multiple, MAX_SIDE)) for side in size)
        raise UsageError(
            f"size {width}x{height}",
            expected=f"sides divisible by {multiple}, up to {MAX_SIDE}",
            remedy=f"--size {nearest}",
        )


def working_size(aspect: Fraction, area: int, multiple: int) -> tuple[int, int]:
    """(width, height) on the grid with about `area` pixels whose shape is nearest to the clip's.

    The clip is scaled to it and back; the shape error (log ratio) is weighed against the area error, so that a small
    grid does not distort the picture for a few pixels more.

    Args:
        aspect: displayed width / height of the clip.
        area: pixels that the model was trained at.
        multiple: both sides are multiples of it.
    """

    def cost(width: int, height: int) -> float:
        shape = abs(math.log(width / height / aspect))
        return shape + 0.25 * abs(math.log(width * height / area))

    ideal = math.sqrt(area * aspect), math.sqrt(area / aspect)
    options = [[max(math.floor(side / multiple) + d, 1) * multiple for d in (0, 1)] for side in ideal]
    return min(((w, h) for w in options[0] for h in options[1]), key=lambda size: cost(*size))
