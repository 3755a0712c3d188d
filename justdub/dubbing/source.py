"""Read a clip at the size it is worked on, padded to the model's grid.

Letters: B batch, C channels, F/H/W frames/height/width (latents: of their grid), S samples.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from torch import Tensor

from justdub.backbone.checkpoint import Backbone
from justdub.dubbing.clip import Progress, Source
from justdub.dubbing.manifest import Manifest
from justdub.dubbing.settings import DubSettings
from justdub.dubbing.size import clip_size
from justdub.media import ClipInfo, FrameReader, read_audio
from justdub.sequence import SequenceRules

FOREIGN_DB = 2.5  # so far below its usual round trip a codec works outside of what it knows


def read_source(
    backbone: Backbone,
    info: ClipInfo,
    settings: DubSettings,
    rules: SequenceRules,
    manifest: Manifest,
    report: Progress,
) -> Source:
    """Frames and sound of a clip; every change made to them is noted."""
    geometry = backbone.transformer.geometry
    size, asked = clip_size(info, settings, rules, backbone.card, geometry)
    if asked is not None:
        manifest.adjust(
            f"size {asked[0]}x{asked[1]} taken as {size[0]}x{size[1]}, the nearest that two stages can make"
        )
    if size != (info.video.width, info.video.height):
        manifest.adjust(f"worked on at {size[0]}x{size[1]} and scaled back to {info.video.width}x{info.video.height}")
    padded = geometry.padded_frames(info.video.frames)
    if padded != info.video.frames:
        manifest.adjust(f"padded from {info.video.frames} to {padded} frames for the model, cut back after it")
    reader = FrameReader(info, size=size)
    frames = np.empty((padded, size[1], size[0], 3), dtype=np.uint8)
    filled = 0
    for chunk in reader:
        frames[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
        report("read", filled, info.video.frames)
    frames[filled:] = frames[filled - 1]
    audio = _read_audio(backbone, info, Fraction(padded) / info.video.frame_rate)
    if info.audio is None:
        manifest.adjust("the clip has no sound: dubbed with a silent reference")
    for note in (*info.notes, *reader.notes):
        manifest.adjust(note)
    return Source(info, size, frames, audio)


def _read_audio(backbone: Backbone, info: ClipInfo, padded: Fraction) -> np.ndarray:
    """The clip's sound up to its last frame, then silence up to `padded` seconds; all silence without sound."""
    codec = backbone.audio_codec
    audio_CS = np.zeros((codec.channels, round(padded * codec.sample_rate)), dtype=np.float32)
    if info.audio is not None:
        sound_CS = read_audio(info, rate=codec.sample_rate, channels=codec.channels)
        audio_CS[:, : sound_CS.shape[1]] = sound_CS
    return audio_CS


def note_foreign(backbone: Backbone, source: Source, video_BCFHW: Tensor, manifest: Manifest) -> None:
    """Tell the user when the codec cannot even repeat the clip's beginning."""
    usual = backbone.card.round_trip_db
    if not usual:
        return
    copy = backbone.video_codec.decode(video_BCFHW[:, :, :2]).numpy().astype(np.float32)
    error = np.mean((copy - source.frames_FHW3[: len(copy)]) ** 2)
    found = 10 * np.log10(255**2 / max(float(error), 1e-3))
    if found < usual - FOREIGN_DB:
        manifest.adjust(
            f"the clip is far from what {backbone.card.name} was trained on (its codec keeps {found:.0f} dB "
            f"of it, usually {usual:.0f}): do not expect much; --backbone takes a model that knows such footage"
        )
