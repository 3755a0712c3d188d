"""Generate a part of a clip anew and keep the rest: in one denoising pass, picture and sound together.

What JUST-DUB-IT makes its training pairs with ("counterfactual inpainting"): the lips and the speech of one half of a
clip in another language, the other half as context.

Letters: B batch, C channels, F/H/W frames/height/width, f/h/w video latents' grid, S samples, T audio latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from justdub.dubbing.prompt import Timeline
from justdub.dubbing.settings import DubSettings
from justdub.faces.masks import to_pixels
from justdub.sequence import Known, SequenceRules, plan_sequence
from justdub.tokens import audio_positions

if TYPE_CHECKING:
    from justdub.dubbing.pipeline import DubPipeline

_FADE = 0.01  # seconds over which kept and new sound are mixed


@dataclass(frozen=True)
class Inpainted:
    """frames_FHW3 uint8; audio_CS float32 at the audio codec's input rate, as the clip was given."""

    frames_FHW3: np.ndarray
    audio_CS: np.ndarray


def inpaint(
    pipe: DubPipeline,
    frames_FHW3: np.ndarray,
    audio_CS: np.ndarray,
    *,
    cells_fhw: Tensor,
    steps_T: Tensor,
    prompt: str | Timeline,
    frame_rate: Fraction | int,
    settings: DubSettings,
    clean: bool = True,
    paste: bool = True,
) -> Inpainted:
    """Generate the masked latents of a clip.

    Args:
        frames_FHW3: uint8, on the model's grid of frames and sizes. audio_CS: float32 as the audio codec reads it.
        cells_fhw: bool, video latents to generate. steps_T: bool, audio latents to generate.
        prompt: of the whole clip as it shall be.
        clean: see `sequence.Known`.
        paste: keep pixels that no generated latent stands for as they were, else all frames are decoded ones.
    """
    backbone = pipe.backbone
    device = backbone.transformer.device
    video_BCFHW = backbone.video_codec.encode(frames_FHW3).to(device)
    audio_BCTM = backbone.audio_codec.encode(audio_CS).to(device)
    plan = plan_sequence(
        video_target_BCFHW=video_BCFHW,
        audio_target_BCTM=audio_BCTM,
        video_reference_BCFHW=None,
        audio_reference_BCTM=None,
        frame_rate=frame_rate,
        geometry=backbone.transformer.geometry,
        rules=SequenceRules(),
        known=Known(~cells_fhw[None], ~_as_long(steps_T, audio_BCTM.shape[2])[None], clean=clean),
    )
    latents = pipe.denoise(plan, prompt, settings)
    frames = frames_FHW3
    if cells_fhw.any():
        frames = backbone.video_codec.decode(latents.video_BCFHW).numpy()
        if paste:
            new_FHW = to_pixels(cells_fhw, backbone.transformer.geometry).numpy()
            frames = np.where(new_FHW[..., None], frames, frames_FHW3)
    return Inpainted(frames, _sound(pipe, latents.audio_BCTM, audio_CS, steps_T) if steps_T.any() else audio_CS)


def audio_steps(pipe: DubPipeline, seconds: Fraction | float, start: float, end: float) -> Tensor:
    """bool (T,): audio latents of a clip of so many seconds that lie wholly or in part between two instants."""
    geometry = pipe.backbone.transformer.geometry
    mels = 1 + int(seconds * geometry.sample_rate) // geometry.hop_length
    steps = 1 + (mels - 1) // geometry.mels_per_latent
    begin_T, stop_T = audio_positions(steps, geometry)[0].T
    return (stop_T > start) & (begin_T < end)


def _as_long(steps_T: Tensor, length: int) -> Tensor:
    """The last value held, or the rest cut: encoders round a clip's end differently."""
    return torch.cat((steps_T, steps_T[-1:].expand(max(0, length - len(steps_T)))))[:length]


def _sound(pipe: DubPipeline, audio_BCTM: Tensor, before_CS: np.ndarray, steps_T: Tensor) -> np.ndarray:
    """The new sound where it was generated, the old one elsewhere."""
    codec, geometry = pipe.backbone.audio_codec, pipe.backbone.transformer.geometry
    made_CS = codec.decode(audio_BCTM).numpy()
    if codec.output_rate != codec.sample_rate:
        from scipy.signal import resample_poly

        made_CS = resample_poly(made_CS, codec.sample_rate, codec.output_rate, axis=1)
    if len(made_CS) != len(before_CS):
        made_CS = np.repeat(made_CS.mean(0, keepdims=True), len(before_CS), 0)
    length = before_CS.shape[1]
    made_CS = np.pad(made_CS[:, :length], ((0, 0), (0, max(0, length - made_CS.shape[1]))))
    share_S = np.zeros(length, np.float32)
    for (start, end), new in zip(audio_positions(len(steps_T), geometry)[0].tolist(), steps_T.tolist(), strict=True):
        if new:
            share_S[round(start * codec.sample_rate) : round(end * codec.sample_rate)] = 1
    width = 2 * round(_FADE * codec.sample_rate / 2) + 1
    share_S = np.convolve(share_S, np.full(width, 1 / width, np.float32), "same")
    return (share_S * made_CS + (1 - share_S) * before_CS).astype(np.float32)
