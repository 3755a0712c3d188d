"""Stage 5: each half said again in the other half's language.

Lips and speech of one half are generated anew, everything else of the clip is given: the other half is the context from
which voice and face are taken. The original half becomes a pair's **target**, the inpainted one its **reference**, so
what is learnt from is never itself inpainted (JUST-DUB-IT, section "Data").

Legend: F frames, f/h/w video latents' grid, T audio latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from datagen import mask
from datagen.prompt import told
from datagen.script import Script
from datagen.split import Span
from datagen.tools import RATE, Film, Tools, resample
from justdub.dubbing.inpaint import Inpainted, audio_steps, inpaint
from justdub.dubbing.prompt import Timeline
from justdub.tokens import Geometry


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Inpaint every half of one clip: files `_0.mp4` and `_1.mp4` hold the halves."""
    script = Script.of(tools.store("script").usable(number))
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    cells_fhw = mask.cells(tools.store("mask"), number)
    found = spans(tools, number)
    facts: dict[str, Any] = {"halves": []}
    media = {}
    for place, span in enumerate(found):
        seed = tools.seed("inpaint", number, place)
        prompt = script.prompt(place, switch=switch(tools, found))
        made = again(
            tools, film, prompt, span=span, cells_fhw=within(cells_fhw, span, tools.geometry),
            speech=speech(found, place, len(film.samples) / RATE, tools.job.inpaint.margin), seed=seed,
        )  # fmt: skip
        media[f"_{place}.mp4"] = tools.encode(part(made, span))
        facts["halves"].append({"seed": seed, "prompt": told(prompt)})
    return facts, media


def spans(tools: Tools, number: int) -> list[Span]:
    """The halves of a clip."""
    return [Span.of(span) for span in tools.store("split").usable(number)["spans"]]


def switch(tools: Tools, found: list[Span]) -> float | None:
    """Seconds at which the second half's prompt takes over, the middle of the pause; None where one prompt says all."""
    if tools.job.script.prompts == "whole" or len(found) < 2:
        return None
    return (found[0].speech[1] + found[1].speech[0]) / 2


def within(cells_fhw: Tensor, span: Span, geometry: Geometry) -> Tensor:
    """The masked latents that show a frame of a half."""
    first = -(-span.first // geometry.frames_per_latent)
    last = -(-(span.first + span.count - 1) // geometry.frames_per_latent)
    when_f = torch.arange(len(cells_fhw))
    return cells_fhw & ((when_f >= first) & (when_f <= last))[:, None, None]


def speech(found: list[Span], place: int, seconds: float, margin: float) -> tuple[float, float]:
    """From when to when a half's sound is generated: its speech and `margin` seconds around it, never beyond the middle
    of the pause that parts it from another half. Speech in another language may be longer, so the half's rest counts.
    """
    start, end = found[place].speech
    before = (found[place - 1].speech[1] + start) / 2 if place else 0.0
    after = (end + found[place + 1].speech[0]) / 2 if place + 1 < len(found) else seconds
    return max(before, start - margin), min(after, end + margin)


def again(
    tools: Tools,
    film: Film,
    prompt: str | Timeline,
    *,
    span: Span,
    cells_fhw: Tensor,
    speech: tuple[float, float] | None,
    seed: int,
) -> Film:
    """The whole clip with a half's lips, and its sound between two instants (None: none of it), generated anew."""
    pipe, settings = tools.pipe, tools.job.inpaint
    audio = pipe.backbone.audio_codec
    samples_S = resample(film.samples, RATE, audio.sample_rate)
    seconds = len(film.frames) / film.rate
    steps_T = audio_steps(pipe, seconds, *(speech or (-2.0, -1.0)))
    made: Inpainted = inpaint(
        pipe,
        film.frames,
        np.repeat(samples_S[None], audio.channels, 0),
        cells_fhw=cells_fhw,
        steps_T=steps_T,
        prompt=prompt,
        frame_rate=film.rate,
        settings=tools.settings(settings.sampling, seed),
        clean=settings.given == "clean",
        paste=settings.paste,
    )
    return Film(made.frames_FHW3, resample(made.audio_CS.mean(0), audio.sample_rate, RATE), film.rate)


def part(film: Film, span: Span) -> Film:
    """A half cut out."""
    start, end = (round(frame / film.rate * RATE) for frame in (span.first, span.first + span.count))
    return Film(film.frames[span.first : span.first + span.count], film.samples[start:end], film.rate)


def put_back(film: Film, half: Film, span: Span) -> Film:
    """The whole clip with a half in its place."""
    frames_FHW3, samples_S = film.frames.copy(), film.samples.copy()
    frames_FHW3[span.first : span.first + span.count] = half.frames
    start = round(span.first / film.rate * RATE)
    length = min(len(half.samples), len(samples_S) - start)
    samples_S[start : start + length] = half.samples[:length]
    return Film(frames_FHW3, samples_S, film.rate)
