"""Stage 6: lip augmentation. The lips of some references are drawn again, over-articulated, to the same sound.

A model that copies the source's lips is punished where these differ most from the target's (JUST-DUB-IT: mumbled lips
look alike in all languages, so copying would pay). The inpainted sound is given, only the lips are generated, with a
prompt that says how.

Legend: F frames, K corners.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datagen import inpaint, mask
from datagen.prompt import told
from datagen.script import Script
from datagen.tools import Film, Tools


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Augment the halves of one clip that the lot falls on: `_0.mp4`, `_1.mp4`."""
    script = Script.of(tools.store("script").usable(number))
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    cells_fhw = mask.cells(tools.store("mask"), number)
    facts: dict[str, Any] = {"halves": []}
    media = {}
    found_spans = inpaint.spans(tools, number)
    for place, span in enumerate(found_spans):
        half = tools.read(tools.store("inpaint").path(number, f"_{place}.mp4"))
        before = spread(tools, half)
        seed = tools.seed("lips", number, place)
        found: dict[str, Any] = {"augmented": chosen(seed, tools.job.lips.share), "spread_before": before}
        if found["augmented"]:
            prompt = script.prompt(place, manner=tools.job.lips.manner, switch=inpaint.switch(tools, found_spans))
            made = inpaint.again(
                tools, inpaint.put_back(film, half, span), prompt, span=span,
                cells_fhw=inpaint.within(cells_fhw, span, tools.geometry), speech=None, seed=seed,
            )  # fmt: skip
            made_half = Film(inpaint.part(made, span).frames, half.samples, half.rate)
            media[f"_{place}.mp4"] = tools.encode(made_half)
            found |= {"seed": seed, "prompt": told(prompt), "spread_after": spread(tools, made_half)}
        facts["halves"].append(found)
    return facts, media


def chosen(seed: int, share: float) -> bool:
    """Whether the lot falls on a half."""
    return bool(np.random.default_rng(seed).uniform() < share)


def spread(tools: Tools, film: Film) -> float | None:
    """Standard deviation of the mouth aspect ratio over the frames, or None without a face."""
    ratio_F = aspect(tools.finder.find(film.frames).lips_FK2)
    return round(float(np.nanstd(ratio_F)), 5) if np.isfinite(ratio_F).any() else None


def aspect(lips_FK2: np.ndarray) -> np.ndarray:
    """Height over width of the lips' outline, frame by frame."""
    return np.ptp(lips_FK2[..., 1], axis=1) / np.maximum(np.ptp(lips_FK2[..., 0], axis=1), 1e-6)


def reference(tools: Tools, number: int, place: int):
    """Path of a pair's reference clip: with augmented lips if it has them."""
    path = tools.store("lips").path(number, f"_{place}.mp4")
    return path if path.exists() else tools.store("inpaint").path(number, f"_{place}.mp4")
