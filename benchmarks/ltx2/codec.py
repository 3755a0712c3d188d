"""Part `codec`: the video VAE, the audio VAE and the vocoder at the clip's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.ltx2 import models
from benchmarks.ltx2.clock import Way
from benchmarks.ltx2.counted import counted
from benchmarks.ltx2.report import Row
from benchmarks.ltx2.run import Run

PART = "codec"


def rows(run: Run) -> Iterator[Row]:
    made = models.codecs(run.scale, run.device)
    yield from run.guarded(PART, "video VAE", partial(_video, run, made), dtype="bf16")
    yield from run.guarded(PART, "audio VAE and vocoder", partial(_audio, run, made), dtype="fp32")


def _video(run: Run, made: models.Codecs) -> Iterator[Row]:
    vae, (frames, height, width) = made.video(), run.resolution.grid
    size = (run.resolution.frames, run.resolution.height, run.resolution.width)
    pixels_BCFHW = torch.rand(1, vae.config.in_channels, *size, device=run.device, dtype=torch.bfloat16) * 2 - 1
    latents_BCFHW = torch.randn(
        1, vae.config.latent_channels, frames, height, width, device=run.device, dtype=torch.bfloat16
    )
    yield from _one(run, "video VAE encode", "bf16", lambda: vae.encode(pixels_BCFHW).latent_dist.mode())
    decode = partial(vae.decode, latents_BCFHW, return_dict=False)
    yield from _one(run, "video VAE decode", "bf16", decode)
    vae.enable_tiling()
    yield from _one(run, "video VAE decode, tiled", "bf16", decode)


def _audio(run: Run, made: models.Codecs) -> Iterator[Row]:
    vae, vocoder = made.audio(), made.vocoder()
    steps = 4 * run.resolution.audio_latents - 3
    mel_BCTM = torch.randn(1, vae.config.in_channels, steps, vae.config.mel_bins, device=run.device)
    with torch.no_grad():
        latents_BCTM = vae.encode(mel_BCTM).latent_dist.mode()
    yield from _one(run, "audio VAE encode", "fp32", lambda: vae.encode(mel_BCTM).latent_dist.mode())
    yield from _one(run, "audio VAE decode", "fp32", lambda: vae.decode(latents_BCTM, return_dict=False))
    yield from _one(run, "vocoder", "fp32", lambda: vocoder(mel_BCTM))


def _one(run: Run, name: str, dtype: str, call: Callable[[], Any]) -> Iterator[Row]:
    def found() -> Iterator[Row]:
        with torch.no_grad():
            yield from run.measure(PART, Way(name, call, counted(call)), dtype=dtype)

    yield from run.guarded(PART, name, found, dtype=dtype)
