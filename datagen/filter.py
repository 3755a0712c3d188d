"""Stage 7: which pairs are good enough. Every measure is kept, and every rejection with all its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from datagen import inpaint, lips, mask
from datagen.judging import Candidate
from datagen.script import Script
from datagen.tools import Tools
from justdub.faces.masks import to_pixels


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Measure the pairs of one clip; its facts hold measures, reasons and whether each is used."""
    script = Script.of(tools.store("script").usable(number))
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    whole_FHW = changing(tools, number, len(film.frames))
    facts: dict[str, Any] = {"pairs": []}
    for place, span in enumerate(inpaint.spans(tools, number)):
        pair = Candidate(
            target=inpaint.part(film, span),
            reference=tools.read(lips.reference(tools, number, place)),
            target_line=script.halves[place].line,
            reference_line=script.halves[place].other,
            mask_FHW=whole_FHW[span.first : span.first + span.count],
        )
        measures = tools.judge.measure(pair) if tools.judge else {}
        reasons = faults(measures, tools.job.filter.limits)
        rounded = {name: round(value, 4) for name, value in measures.items()}
        facts["pairs"].append({"place": place, "accepted": not reasons, "reasons": reasons, "measures": rounded})
    return facts, {}


def changing(tools: Tools, number: int, frames: int) -> np.ndarray:
    """bool (F, H, W): pixels in which target and reference may differ, of the whole clip."""
    cells_FHW = to_pixels(mask.cells(tools.store("mask"), number), tools.geometry).numpy()
    painted_FHW = tools.read(tools.store("mask").path(number, ".mp4")).frames[..., 0] > 127
    return cells_FHW[:frames] | painted_FHW


def faults(measures: Mapping[str, float], limits: Mapping[str, tuple[float, ...]]) -> list[str]:
    """One line for every limit that a pair misses; what could not be measured misses its limit."""
    found = []
    for name, (least, most) in limits.items():
        value = measures.get(name)
        if value is None:
            found.append(f"{name} could not be measured")
        elif not least <= value <= most:
            found.append(f"{name} {value:.3g} is not within {least:g} to {most:g}")
    return found
