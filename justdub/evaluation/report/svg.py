"""Plots as inline SVG: lines over time, a histogram, a radar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 22, 18, 8


def _frame(width: int, height: int, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">'
        f'<text x="{_LEFT}" y="12" class="title">{escape(title)}</text>{body}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _short(value: float) -> str:
    return f"{value:.3g}"


def curves(title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str = "s") -> str:
    """Lines over one axis: name -> (x, y). Every line is scaled to the height of its own range."""
    width, height = 620, 150
    longest = max((x[-1] for x, _ in series.values() if len(x)), default=0.0) or 1.0
    inner, tall = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    parts = [f'<rect x="{_LEFT}" y="{_TOP}" width="{inner}" height="{tall}" class="plot"/>']
    for number, (name, (x, y)) in enumerate(series.items()):
        low, high = min(y, default=0.0), max(y, default=1.0)
        spread = (high - low) or 1.0
        points = " ".join(
            f"{_LEFT + inner * a / longest:.1f},{_TOP + tall * (1 - (b - low) / spread):.1f}"
            for a, b in zip(x, y, strict=True)
        )
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        parts.append(
            f'<text x="{width - _RIGHT - 150 * (len(series) - number - 1)}" y="12" text-anchor="end" '
            f'style="fill:{colour}">{escape(name)} {_short(low)}..{_short(high)}</text>'
        )
    for step in range(5):
        parts.append(_text(_LEFT + inner * step / 4, height - 6, f"{longest * step / 4:.1f} {unit}"))
    return _frame(width, height, title, "".join(parts))


def histogram(title: str, values: Sequence[float], unit: str, bins: int = 15) -> str:
    """Counts of values, with nought in the middle of a bar where both signs occur or all are equal."""
    width, height = 420, 170
    reach = max((abs(value) for value in values), default=0.0) or 1.0
    edge = reach * (1 + 1 / bins)
    low, high = (-edge, edge) if min(values, default=0.0) < 0 else (-reach / bins, edge)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    inner, tall = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    most, step = max(counts) or 1, inner / bins
    parts = [
        f'<rect x="{_LEFT + step * place + 1:.1f}" y="{_TOP + tall * (1 - count / most):.1f}" width="{step - 2:.1f}" '
        f'height="{tall * count / most:.1f}" fill="{COLOURS[0]}"><title>{count}</title></rect>'
        for place, count in enumerate(counts)
        if count
    ]
    parts.append(
        f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{height - _BOTTOM}" y2="{height - _BOTTOM}" class="axis"/>'
    )
    parts += [
        _text(_LEFT + inner * share, height - 6, f"{_short(low + (high - low) * share)} {unit}")
        for share in (0, 0.5, 1)
    ]
    parts.append(_text(_LEFT - 4, _TOP + 9, str(most), "end"))
    return _frame(width, height, title, "".join(parts))


def radar(title: str, axes: Sequence[str], rows: Mapping[str, Sequence[float]]) -> str:
    """One polygon per row; values 0 (middle) to 1 (rim), axes named around."""
    width, height, radius = 620, 380, 130
    x0, y0 = width / 2, height / 2 + 8

    def place(number: int, length: float) -> tuple[float, float]:
        angle = 2 * math.pi * number / len(axes) - math.pi / 2
        return x0 + length * radius * math.cos(angle), y0 + length * radius * math.sin(angle)

    parts = []
    for ring in (0.25, 0.5, 0.75, 1):
        corners = " ".join("{:.1f},{:.1f}".format(*place(k, ring)) for k in range(len(axes)))
        parts.append(f'<polygon points="{corners}" class="ring"/>')
    for number, name in enumerate(axes):
        x, y = place(number, 1.1)
        parts.append(_text(x, y + 4, name, "middle" if abs(x - x0) < 20 else "start" if x > x0 else "end"))
    for number, (name, values) in enumerate(rows.items()):
        colour = COLOURS[number % len(COLOURS)]
        corners = " ".join("{:.1f},{:.1f}".format(*place(k, value)) for k, value in enumerate(values))
        parts.append(f'<polygon points="{corners}" fill="{colour}22" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<text x="8" y="{34 + 16 * number}" style="fill:{colour}">{escape(name)}</text>')
    return _frame(width, height, title, "".join(parts))
