"""Plots as inline SVG: lines over time, a histogram, a radar. Every axis says what it counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
_LEFT, _RIGHT, _LINE = 40, 24, 18  # pixels beside a plot; height of a line of text


def _frame(width: int, height: int, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}"><text x="0" y="12" class="title">{escape(title)}</text>{body}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _short(value: float) -> str:
    return f"{value + 0.0:.4g}"


def nice_step(span: float, most: int) -> float:
    """1, 2 or 5 times a power of ten, so that `span` has at most `most` steps."""
    if not span > 0:
        return 1.0
    power = 10 ** math.floor(math.log10(span / most))
    return next(step for factor in (1, 2, 5, 10, 20) if span / (step := factor * power) <= most)


def curves(title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str = "s") -> str:
    """Lines over one axis: name -> (x, y). Every line is scaled to its own range, which stands in the legend."""
    width, tall, top = 620, 110, 2 * _LINE + 4
    longest = max((x[-1] for x, _ in series.values() if len(x)), default=0.0) or 1.0
    inner, bottom = width - 2 * _RIGHT, top + tall
    step = nice_step(longest, 8)
    parts = []
    for number in range(int(longest / step + 1e-9) + 1):
        x = _RIGHT + inner * number * step / longest
        parts += [_line(x, top, x, bottom), _text(x, bottom + 14, f"{_short(number * step)} {unit}")]
    legend = 0.0
    for number, (name, (x, y)) in enumerate(series.items()):
        low, high = min(y, default=0.0), max(y, default=1.0)
        spread = (high - low) or 1.0
        points = " ".join(
            f"{_RIGHT + inner * a / longest:.1f},{bottom - tall * (b - low) / spread:.1f}"
            for a, b in zip(x, y, strict=True)
        )
        colour, words = COLOURS[number % len(COLOURS)], f"{name}: {low:.3g} to {high:.3g}"
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<rect x="{legend:.0f}" y="{_LINE + 3}" width="12" height="3" fill="{colour}"/>')
        parts.append(_text(legend + 17, _LINE + 9, words, "start"))
        legend += 6.2 * len(words) + 34
    return _frame(width, bottom + _LINE, title, "".join(parts))


def histogram(title: str, values: Sequence[float], unit: str, bars: int = 14) -> str:
    """How many clips have which value; bars are 1, 2 or 5 (times a power of ten) wide, nought is the middle of one."""
    width, tall, top = 420, 120, _LINE + 8
    low, high = min([*values, 0.0]), max([*values, 0.0])
    step = nice_step(high - low, bars)
    counts = Counter(round(value / step) for value in values)
    first, last = min([*counts, 0]) - 1, max([*counts, 0]) + 1
    inner, bottom = width - _LEFT - _RIGHT, top + tall
    wide, most = inner / (last - first + 1), max(counts.values(), default=1)
    parts = [_text(_LEFT - 6, bottom - tall + 4, str(most), "end"), _text(_LEFT - 6, bottom + 4, "0", "end")]
    parts += [_text(0, bottom - tall / 2, "clips", "start", ' class="faint"')]
    parts += [_line(_LEFT, top, width - _RIGHT, top), _line(_LEFT, bottom, width - _RIGHT, bottom, "axis")]
    every = max(1, math.ceil((last - first + 1) / 7))
    for place in range(first, last + 1):
        x, high = _LEFT + wide * (place - first), tall * counts[place] / most
        if counts[place]:
            label = f"{_short(place * step)} {unit}: {counts[place]}"
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{bottom - high:.1f}" width="{wide - 2:.1f}" height="{high:.1f}" '
                f'fill="{COLOURS[0]}"><title>{escape(label)}</title></rect>'
            )
        if place % every == 0:
            parts.append(_text(x + wide / 2, bottom + 15, f"{_short(place * step)}"))
    words = f"{unit}, bars of {_short(step)}" if unit else f"bars of {_short(step)}"
    parts.append(_text(_LEFT + inner / 2, bottom + 31, words, style=' class="faint"'))
    return _frame(width, bottom + 36, title, "".join(parts))


def radar(title: str, axes: Sequence[str], rows: Mapping[str, Sequence[float]]) -> str:
    """One polygon per row; values 0 (middle) to 1 (rim), axes named around."""
    width, radius, top = 720, 150, 2 * _LINE + 30
    x0, y0 = width / 2, top + radius

    def place(number: int, length: float) -> tuple[float, float]:
        angle = 2 * math.pi * number / len(axes) - math.pi / 2
        return x0 + length * radius * math.cos(angle), y0 + length * radius * math.sin(angle)

    parts = []
    for ring in (0.25, 0.5, 0.75, 1):
        corners = " ".join("{:.1f},{:.1f}".format(*place(k, ring)) for k in range(len(axes)))
        parts.append(f'<polygon points="{corners}" class="grid"/>')
    for number, name in enumerate(axes):
        x, y = place(number, 1.08)
        parts.append(_text(x, y + 4, name, "middle" if abs(x - x0) < 8 else "start" if x > x0 else "end"))
    legend = 0.0
    for number, (name, values) in enumerate(rows.items()):
        colour = COLOURS[number % len(COLOURS)]
        corners = " ".join("{:.1f},{:.1f}".format(*place(k, value)) for k, value in enumerate(values))
        parts.append(f'<polygon points="{corners}" fill="{colour}18" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<rect x="{legend:.0f}" y="{_LINE + 3}" width="12" height="3" fill="{colour}"/>')
        parts.append(_text(legend + 17, _LINE + 9, name, "start"))
        legend += 6.6 * len(name) + 36
    return _frame(width, top + 2 * radius + 30, title, "".join(parts))
