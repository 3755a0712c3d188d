"""Encode a list of pairs once: clips through the VAEs, prompts through the text encoder, into the cache.

Run again, only what is missing is encoded; several processes take turns (`part` of `parts`). A clip that cannot be
used is a fault with a reason, the rest goes on.

Letters: F frames, H/W height/width, 3 RGB, S samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from justdub.backbone import checkpoint
from justdub.backbone.checkpoint import Backbone, Card
from justdub.dubbing.size import check_size, parse_size, working_size
from justdub.errors import BadInputError, JustDubError, UsageError
from justdub.faces.masks import to_latents
from justdub.media import ClipInfo, FrameReader, probe, read_audio
from justdub.tokens import Geometry
from justdub.training.cache import Cache, Cut, Sample, sample_name, text_name
from justdub.training.dataset import Fault, Pair, PairList

CODECS = ("vae", "audio_vae")
TEXT_PARTS = ("tokenizer", "text_encoder", "connectors")
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CachedPair:
    """A pair whose encoded files are in the cache, and what they were cut to."""

    pair: Pair
    sample: str
    texts: tuple[str, ...]  # one, or one for each prompt of the pair
    cut: Cut
    frame_rate: Fraction


@dataclass(frozen=True)
class Encoded:
    """What a list came to: usable pairs in the list's order, what could not be used, and the name of the text of passes
    without a prompt."""

    cache: Cache
    pairs: tuple[CachedPair, ...]
    faults: tuple[Fault, ...]
    null_text: str

    def digest(self) -> str:
        """Of all that is trained on, hex."""
        names = sorted(
            " ".join((pair.sample, *pair.texts, *(str(at) for at, _ in pair.pair.later))) for pair in self.pairs
        )
        return hashlib.sha256("\n".join([*names, self.null_text]).encode()).hexdigest()


@dataclass(frozen=True)
class Bucket:
    """A size that clips are cut to: pixels and frames."""

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str, geometry: Geometry, downscale: int) -> Bucket:
        """``WxHxF`` on the model's grid."""
        size, _, frames = text.lower().rpartition("x")
        try:
            (width, height), count = parse_size(size), int(frames)
        except (UsageError, ValueError):
            raise UsageError(f"bucket {text!r}", expected="WxHxF, such as 960x544x121") from None
        check_size((width, height), geometry.pixels_per_token * downscale)
        if count < 1 or geometry.padded_frames(count) != count:
            near = geometry.padded_frames(max(1, count))
            raise UsageError(
                f"bucket of {count} frames", expected=f"{geometry.frames_per_latent} k + 1", remedy=f"{size}x{near}"
            )
        return cls(width, height, count)


class Encoder:
    """Encodes the pairs of a list for one backbone.

    Args:
        backbone: the loaded backbone, or a function that loads it when the first file is missing.
        folder: of the backbone; its fingerprints name the files.
        buckets: see `Bucket`; none: the card's area in each clip's shape.
        downscale: of the video reference.
        text_encoder: folder of the language model, where the backbone is an official single file.
    """

    def __init__(
        self,
        backbone: Callable[[], Backbone],
        folder: Path,
        geometry: Geometry,
        *,
        buckets: Iterable[str] = (),
        downscale: int = 1,
        text_encoder: Path | None = None,
    ) -> None:
        self.backbone, self.geometry, self.downscale = backbone, geometry, downscale
        self.card = Card.read(folder)
        self.codecs = checkpoint.fingerprint(folder, CODECS)
        self.text_parts = checkpoint.fingerprint(folder, TEXT_PARTS, text_encoder=text_encoder)
        self.buckets = tuple(Bucket.parse(text, geometry, downscale) for text in buckets)

    def run(
        self,
        pairs: PairList,
        cache: Cache,
        *,
        broken_limit: float = 0.05,
        part: int = 0,
        parts: int = 1,
        report: Report | None = None,
    ) -> Encoded:
        """Encode what is missing of every `parts`-th pair, beginning with `part`; look at all of them.

        Raises:
            BadInputError: more than `broken_limit` of the list cannot be used.
        """
        report = report or (lambda stage, done, total: None)
        total, found, faults = len(pairs.pairs), [], list(pairs.faults)
        null = text_name(self.card.negative_prompt, self.text_parts)
        if part == 0:
            self._encode_text(self.card.negative_prompt, null, cache)
        for number, pair in enumerate(pairs.pairs):
            try:
                target, reference = probe(pair.target), probe(pair.reference) if pair.reference else None
                cut = self.cut(target, reference)
                name = sample_name(pair.target, pair.reference, pair.mask, cut, self.codecs)
                texts = tuple(text_name(prompt, self.text_parts) for prompt in pair.prompts)
                if number % parts == part:
                    if not cache.sample_path(name).exists():
                        cache.write_sample(name, self.encode(pair, cut))
                    for prompt, text in zip(pair.prompts, texts, strict=True):
                        self._encode_text(prompt, text, cache)
                found.append(CachedPair(pair, name, texts, cut, target.video.frame_rate))
            except JustDubError as error:
                faults.append(Fault(pair.entry, str(error)))
                check_broken(faults, len(pairs.faults) + total, broken_limit)
            report("precompute", number + 1, total)
        check_broken(faults, len(pairs.faults) + total, broken_limit)
        return Encoded(cache, tuple(found), tuple(faults), null)

    def cut(self, target: ClipInfo, reference: ClipInfo | None) -> Cut:
        """Size and length that both clips are read at.

        Raises:
            BadInputError: the clips disagree, or are too short.
        """
        if reference is not None and target.video.frame_rate != reference.video.frame_rate:
            raise BadInputError(
                f"the target has {_rate(target)} frames/s and the reference {_rate(reference)}",
                expected="one frame rate",
            )
        clips = {"target": target} if reference is None else {"target": target, "reference": reference}
        for role, info in clips.items():
            if info.audio is None:
                raise BadInputError(f"the {role} has no sound")
        frames = min(info.video.frames for info in clips.values())
        fitting = [bucket for bucket in self.buckets if bucket.frames <= frames]
        if self.buckets and not fitting:
            raise BadInputError(f"{frames} frames", expected=f"{min(b.frames for b in self.buckets)} or more")
        if fitting:
            aspect = float(target.display_aspect)
            best = min(
                fitting,
                key=lambda b: (round(abs(math.log(b.width / b.height / aspect)), 6), -b.frames, -b.width * b.height),
            )
            return Cut(best.width, best.height, best.frames, self.downscale, crop=True)
        multiple = self.geometry.pixels_per_token * self.downscale
        width, height = working_size(target.display_aspect, math.prod(self.card.size), multiple)
        grid = self.geometry.frames_per_latent
        return Cut(width, height, 1 + (frames - 1) // grid * grid, self.downscale)

    @torch.no_grad()
    def encode(self, pair: Pair, cut: Cut) -> Sample:
        """Read and encode both clips and the mask."""
        backbone = self.backbone()
        codec, audio = backbone.video_codec, backbone.audio_codec
        target, reference = probe(pair.target), probe(pair.reference) if pair.reference else None
        rate = target.video.frame_rate

        def sound(info: ClipInfo) -> torch.Tensor:
            return audio.encode(
                read_audio(info, rate=audio.sample_rate, channels=audio.channels, duration=cut.frames / rate)
            )[0]

        mask = None
        if pair.mask is not None:
            mask_FHW = torch.from_numpy(read_frames_cut(probe(pair.mask), cut).max(-1)).float() / 255
            mask = to_latents(mask_FHW, self.geometry)
        sample = Sample(
            video_target_Cfhw=codec.encode(read_frames_cut(target, cut))[0],
            video_reference_Cfhw=(
                codec.encode(read_frames_cut(reference, cut), cut.reference_downscale)[0] if reference else None
            ),
            audio_target_CTM=sound(target),
            audio_reference_CTM=sound(reference) if reference else None,
            mask_fhw=mask,
            frame_rate=rate,
        )
        for role, latents in (("picture", sample.video_target_Cfhw), ("sound", sample.audio_target_CTM)):
            if not torch.isfinite(latents).all():
                raise BadInputError(f"the {role} of {pair.target.name} encodes to values that are not finite")
        return sample

    def _encode_text(self, prompt: str, name: str, cache: Cache) -> None:
        if not cache.text_path(name).exists():
            cache.write_text(name, self.backbone().text.encode(prompt))


def read_frames_cut(info: ClipInfo, cut: Cut) -> np.ndarray:
    """The first frames of a clip at the cut's size, (F, H, W, 3) uint8.

    Raises:
        BadInputError: fewer frames than the cut wants.
    """
    size = (cut.width, cut.height)
    if cut.crop:
        aspect = float(info.display_aspect)
        height = max(cut.height, cut.width / aspect)
        size = (max(cut.width, round(height * aspect)), round(height))
    chunks = list(FrameReader(info, size=size, limit=cut.frames))
    frames_FHW3 = np.concatenate(chunks) if chunks else np.zeros((0, *size[::-1], 3), np.uint8)
    if len(frames_FHW3) < cut.frames:
        raise BadInputError(f"{info.path.name} has {len(frames_FHW3)} frames", expected=f"{cut.frames} or more")
    top, left = (frames_FHW3.shape[1] - cut.height) // 2, (frames_FHW3.shape[2] - cut.width) // 2
    return np.ascontiguousarray(frames_FHW3[:, top : top + cut.height, left : left + cut.width])


def check_broken(faults: list[Fault], total: int, limit: float) -> None:
    """Stop when too much of a list cannot be used."""
    if len(faults) > limit * total:
        raise BadInputError(
            f"{len(faults)} of {total} pairs cannot be used; the last: {faults[-1]}",
            expected=f"at most {limit:.0%}",
            remedy="mend the list, or raise data.broken_limit",
        )


def _rate(info: ClipInfo) -> str:
    return f"{float(info.video.frame_rate):.3f}".rstrip("0").rstrip(".")
