"""Source and dub frame by frame, once: every comparison of pictures is fed from one pass over the files.

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.sample import Sample
from justdub.faces.masks import fill
from justdub.media import read_frames

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, as in the definitions of SSIM
BLACK = 4.0  # grey levels: a picture that never leaves this range around its mean shows nothing


def grey(frames_FHW3: np.ndarray) -> np.ndarray:
    """float32 FHW, 0..255."""
    return frames_FHW3.astype(np.float32) @ LUMA


def pairs(sample: Sample) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """(source, dub, face) chunks: uint8 FHW3 twice and bool FHW, True in the face, or None without any mask.

    Frame i is compared with frame i, up to the end of the shorter clip.

    Raises:
        BadInputError: the clips differ in rate or in shape, so that no frame belongs to another.
    """
    source, dub = sample.source, sample.dub
    one, other = source.info.video, dub.info.video
    if one.frame_rate != other.frame_rate:
        raise BadInputError(f"frame rates differ: source {one.frame_rate}, dub {other.frame_rate} per second")
    if abs(one.width * other.height - one.height * other.width) > max(one.width, other.width):
        raise BadInputError(f"shapes differ: source {one.width}x{one.height}, dub {other.width}x{other.height}")
    masks = _masks(sample)
    for source_FHW3, dub_FHW3 in zip(source.frames(), dub.frames(source.size), strict=False):
        count = min(len(source_FHW3), len(dub_FHW3))
        face_FHW = None if masks is None else masks(count)
        yield source_FHW3[:count], dub_FHW3[:count], face_FHW


def _masks(sample: Sample):
    """A function that gives the masks of the next so many frames, bool FHW; None where nobody knows the face."""
    width, height = sample.source.size
    if sample.masks is not None:
        return _Drawn(sample, (width, height)).next
    from justdub.evaluation import faces

    try:
        polygons = faces.regions(sample)
    except (MissingError, BadInputError):
        return None
    place = 0

    def following(count: int) -> np.ndarray:
        nonlocal place
        place += count
        return fill(polygons[place - count : place], (width, height))

    return following


class _Drawn:
    """Masks of the user's: a picture for the whole clip or a clip of their own, white in the face."""

    def __init__(self, sample: Sample, size: tuple[int, int]) -> None:
        from justdub.media import probe

        self.still = None
        if sample.masks.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(sample.masks) as picture:
                self.still = np.asarray(picture.convert("L").resize(size)) > 127
            return
        self.chunks = read_frames(probe(sample.masks), size=size, window=16)
        self.name = sample.masks

    def next(self, count: int) -> np.ndarray:
        if self.still is not None:
            return np.broadcast_to(self.still, (count, *self.still.shape))
        chunk = next(self.chunks, None)
        if chunk is None or len(chunk) < count:
            raise BadInputError(f"{self.name}: fewer frames than the clip that it masks")
        return chunk[:count, ..., 0] > 127


def compared(sample: Sample) -> dict[str, float]:
    """Everything that the pass over both pictures gives, kept by content; NaN where there was no mask."""
    parts = ["v1", sample.source.longest, _mask_identity(sample)]
    return {
        name: float(value) for name, value in sample.pair_feature("pictures", lambda: _compare(sample), *parts).items()
    }


def _mask_identity(sample: Sample) -> str:
    from justdub.evaluation import faces
    from justdub.evaluation.cache import digest_file

    return digest_file(sample.masks) if sample.masks is not None else faces.identity()


def _compare(sample: Sample) -> dict[str, np.ndarray]:
    from justdub.evaluation.metrics import flicker, psnr, ssim

    sums: dict[str, list[float]] = {}
    last = None  # the last frames of the chunk before
    for source_FHW3, dub_FHW3, face_FHW in pairs(sample):
        one, other = grey(source_FHW3), grey(dub_FHW3)
        masks = {"": None} if face_FHW is None else {"": None, "_outside": face_FHW}
        # MS-SSIM is published here outside the face alone: without a mask one scale is enough.
        similar = ssim.several(one, other, list(masks.values()), scales=1 if face_FHW is None else len(ssim.SCALES))
        for (suffix, away), (single, five) in zip(masks.items(), similar, strict=True):
            found = {
                "error": psnr.squared_error(source_FHW3, dub_FHW3, away),
                "ssim": single,
                "ms_ssim": five,
                "flicker": flicker.flicker(*_joined(last, one, other, away)),
            }
            for name, values in found.items():
                sums.setdefault(name + suffix, []).extend(values.tolist())
        last = (one[-1:], other[-1:], None if face_FHW is None else face_FHW[-1:])
    if not sums:
        raise BadInputError(f"{sample.name}: no frames to compare")
    return {name: np.float64(_mean(values)) for name, values in sums.items()}


def _mean(values: list[float]) -> float:
    """Of the frames that have a value: a face may fill some of them."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _joined(last, one_FHW, other_FHW, away_FHW):
    """The chunk with the last frame of the chunk before it, so that every change between frames is counted."""
    if last is None:
        return one_FHW, other_FHW, away_FHW
    away = None if away_FHW is None else np.concatenate((last[2], away_FHW))
    return np.concatenate((last[0], one_FHW)), np.concatenate((last[1], other_FHW)), away


def outside(sample: Sample, name: str) -> float:
    """A value outside the face; raises MissingError where nobody said where the face is."""
    found = compared(sample)
    if name + "_outside" not in found:
        raise MissingError(
            "where the face is: no mask and no face found", remedy="--masks DIR, or pip install 'justdub[face]'"
        )
    return found[name + "_outside"]
