"""Encoded training pairs on disk, one safetensors file each, named by everything that made them.

A file's name is the digest of the media's bytes, of how they were cut and scaled, and of the encoders' weights; a
text's is that of the prompt and the text encoder. A stale file is therefore never read: it has another name. Files
appear whole or not at all.

Letters: C channels, f/h/w video latents' grid, T audio latents, M mel bins, L text tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from justdub.backbone.text import TextContext
from justdub.errors import BadInputError

VERSION = 1  # raise it when the same input is encoded differently
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Cut:
    """How a pair's clips are read: size in pixels (scaled to it, or scaled to cover it and cut at the centre), frames,
    and by how much the video reference is smaller."""

    width: int
    height: int
    frames: int
    reference_downscale: int = 1
    crop: bool = False


@dataclass(frozen=True)
class Sample:
    """An encoded pair, normalised latents; no reference: both None; mask_fhw in [0, 1] or None."""

    video_target_Cfhw: Tensor
    video_reference_Cfhw: Tensor | None
    audio_target_CTM: Tensor
    audio_reference_CTM: Tensor | None
    mask_fhw: Tensor | None
    frame_rate: Fraction


def digest_of_file(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sample_name(target: Path, reference: Path | None, mask: Path | None, cut: Cut, encoders: str) -> str:
    """Name of a pair's file. encoders: fingerprint of the two VAEs."""
    parts = [digest_of_file(path) if path else "" for path in (target, reference, mask)]
    return _name({"media": parts, "cut": asdict(cut), "encoders": encoders, "version": VERSION})


def text_name(prompt: str, encoder: str) -> str:
    """Name of a prompt's file. encoder: fingerprint of tokenizer, language model and connectors."""
    return _name({"prompt": prompt.strip(), "encoder": encoder, "version": VERSION})


def _name(parts: dict) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class Cache:
    """A folder of encoded pairs and prompts: ``samples/ab/abcdef....safetensors`` and ``texts/...``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sample_path(self, name: str) -> Path:
        return self.folder / "samples" / name[:2] / f"{name}.safetensors"

    def text_path(self, name: str) -> Path:
        return self.folder / "texts" / name[:2] / f"{name}.safetensors"

    def write_sample(self, name: str, sample: Sample) -> None:
        """Video latents and mask in half precision, audio latents in float32 (their precision is heard)."""
        tensors = {"video_target": sample.video_target_Cfhw.half(), "audio_target": sample.audio_target_CTM.float()}
        if sample.video_reference_Cfhw is not None:
            tensors["video_reference"] = sample.video_reference_Cfhw.half()
            tensors["audio_reference"] = sample.audio_reference_CTM.float()
        if sample.mask_fhw is not None:
            tensors["mask"] = sample.mask_fhw.half()
        _write(self.sample_path(name), tensors, {"frame_rate": str(sample.frame_rate)})

    def read_sample(self, name: str) -> Sample:
        tensors, metadata = _read(self.sample_path(name))
        return Sample(
            tensors["video_target"],
            tensors.get("video_reference"),
            tensors["audio_target"],
            tensors.get("audio_reference"),
            tensors.get("mask"),
            Fraction(metadata["frame_rate"]),
        )

    def write_text(self, name: str, text: TextContext) -> None:
        tensors = {"video": text.video_BLD[0], "audio": text.audio_BLD[0]}
        _write(self.text_path(name), tensors, {})

    def read_text(self, name: str) -> TextContext:
        tensors, _ = _read(self.text_path(name))
        return TextContext(tensors["video"][None], tensors["audio"][None])


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{path} in the cache is damaged ({error})", remedy="delete it and run again") from error


def pad_texts(texts: list[TextContext], multiple: int = 1) -> TextContext:
    """Contexts of batch 1 as one batch: padded at the end to the longest (rounded up), what is padding is masked."""
    longest = max(text.video_BLD.shape[1] for text in texts)
    longest += -longest % multiple
    masks = torch.stack([torch.arange(longest) < text.video_BLD.shape[1] for text in texts]).long()

    def padded(parts: list[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])

    mask_BL = None if bool(masks.all()) else masks
    spans_BL2 = None
    if any(text.spans_BL2 is not None for text in texts):
        whole_2 = torch.tensor([-math.inf, math.inf])
        own = [
            whole_2.expand(1, text.video_BLD.shape[1], 2) if text.spans_BL2 is None else text.spans_BL2
            for text in texts
        ]
        spans_BL2 = padded(own)
    return TextContext(
        padded([text.video_BLD for text in texts]),
        padded([text.audio_BLD for text in texts]),
        mask_BL,
        mask_BL,
        spans_BL2,
    )
