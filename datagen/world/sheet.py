"""Looking at the world: contact sheets as PNG, sound as WAV; numpy and the standard library only.

Real media files are written by `justdub.media`.
"""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np

from datagen.world.clip import WorldBatch
from justdub.media.png import write_png


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """float32 (S,) in -1..1 as 16-bit mono WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def contact_sheet(frames: np.ndarray, columns: int = 8, zoom: int = 1) -> np.ndarray:
    """Clips (B, F, H, W, 3) as rows of `columns` frames spread over each clip, each pixel `zoom` times: (H', W', 3)."""
    take = np.linspace(0, frames.shape[1] - 1, columns + 2).round().astype(int)[1:-1]
    picture = np.concatenate([np.concatenate(list(clip[take]), axis=1) for clip in frames], axis=0)
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def write_batch(folder: Path, batch: WorldBatch, rate: int) -> list[Path]:
    """`sheet.png`, a WAV and a JSON of the truth for every clip; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "sheet.png"]
    write_png(written[0], contact_sheet(batch.frames.cpu().numpy()))
    for number in range(len(batch)):
        clip = batch[number]
        sound, truth = folder / f"clip{number:03d}.wav", folder / f"clip{number:03d}.json"
        write_wav(sound, clip.samples, rate)
        truth.write_text(json.dumps(clip.truth(), ensure_ascii=False, indent=1))
        written += [sound, truth]
    return written
