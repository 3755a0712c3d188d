"""The size that a clip is worked on at."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

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


def snap_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The nearest size on a grid.

    Raises:
        UsageError: a side beyond what any grid allows.
    """
    width, height = (min(max(round(side / multiple), 1) * multiple, MAX_SIDE) for side in size)
    if any(side < 1 or side > MAX_SIDE for side in size):
        raise UsageError(f"size {size[0]}x{size[1]}", expected=f"sides from 1 to {MAX_SIDE}")
    return width, height


def clip_size(
    info: Any, settings: Any, rules: Any, card: Any, geometry: Any
) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """The size that a clip is dubbed at.

    Of two stages, the size of the second: what was asked for, or twice the sides that the backbone was trained at.

    Returns:
        (width, height), and what was asked for when that lay off the grid of two stages.

    Raises:
        UsageError: a size off the grid, of one stage.
    """
    factor = 1 if settings.two_stage is None else 2
    multiple = geometry.pixels_per_token * rules.reference_downscale * factor
    if settings.size is None:
        width, height = card.size
        return working_size(info.display_aspect, width * height * factor**2, multiple), None
    if factor == 1:
        check_size(settings.size, multiple)
        return settings.size, None
    size = snap_size(settings.size, multiple)
    return size, None if size == settings.size else settings.size


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
