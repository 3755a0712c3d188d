"""The renderer's small change: anti-aliased coverage, layers, packed pixels.

Only additions, multiplications, divisions, square roots, minima and maxima are used on pixels, one kernel each: these
are exact in IEEE arithmetic, hence a clip's bytes do not depend on the batch it is drawn in (fused or transcendental
kernels may differ between the vector body and the tail of an array). The one product of small matrices, in
`features.draw_stripes`, has the same shape for every window; a test holds the promise.

Packed pixels are int32 with R, G, B from the lowest byte up, premultiplied by alpha; the top byte holds what shines
through, 127 (all) .. 0 (nothing), so that compositing needs neither an inversion nor an unsigned shift.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ramp(distance: Tensor, pixel: float) -> Tensor:
    """Coverage 0..1 from a signed distance (units, positive inside) with an edge one pixel wide. In place."""
    return distance.mul_(1.0 / pixel).add_(0.5).clamp_(0.0, 1.0)


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float, pixel: float) -> Tensor:
    """Coverage of the ellipse with half axes `rx`, `ry` about the origin; distance to first order, (1 - q) / |grad
    q|."""
    a, b = x / rx, y / ry
    q = a * a + b * b
    slope = ((a / rx).square_() + (b / ry).square_()).sqrt_().mul_(2.0).clamp_(min=1e-4)
    return ramp((1.0 - q).div_(slope), pixel)


def paint(canvas: Tensor, coverage: Tensor, colour: Tensor) -> None:
    """Lay a colour over part of a canvas, in place: canvas (B, 4, ...) premultiplied, coverage (B, ...), colour (B,
    3)."""
    extra = coverage.dim() - 1
    rgba = torch.cat((colour, torch.ones_like(colour[:, :1])), 1).reshape(*colour.shape[:1], 4, *(1,) * extra)
    cover = coverage.unsqueeze(1)
    canvas.mul_(1.0 - cover).add_(cover * rgba)


def pack(red: Tensor, green: Tensor, blue: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied channels 0..1 -> packed pixels."""
    r, g, b = (channel.mul(255.0).add_(0.5).to(torch.int32) for channel in (red, green, blue))
    through = alpha.mul(-127.0).add_(127.5).to(torch.int32)
    return r.bitwise_or_(g.mul_(1 << 8)).bitwise_or_(b.mul_(1 << 16)).bitwise_or_(through.mul_(1 << 24))


def over(top: Tensor, below: Tensor) -> Tensor:
    """Packed `top` over opaque packed `below` (same shape or broadcast): opaque packed pixels."""
    keep = top >> 24
    keep.add_(keep >> 6)  # 0..128
    red_blue = ((below & 0xFF00FF) * keep).bitwise_right_shift_(7).bitwise_and_(0xFF00FF)
    green = keep.mul_(below & 0x00FF00).bitwise_right_shift_(7).bitwise_and_(0x00FF00)
    return red_blue.add_(green).add_(top & 0xFFFFFF)


def average(a: Tensor, b: Tensor) -> Tensor:
    """The mean of packed pixels, byte by byte, rounded down."""
    return ((a ^ b) >> 1).bitwise_and_(0x7F7F7F7F).add_(a & b)
