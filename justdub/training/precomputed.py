"""Latents that other trainers computed: a `.precomputed` folder of JUST-DUB-IT's or the official LTX-2 trainer.

    latents/  reference_latents/              video: `latents` (C, f, h, w), `fps`
    audio_latents/  reference_audio_latents/  audio: `latents` (C, T, M)
    conditions/                               text before the connectors: `prompt_embeds`, or `video_prompt_embeds` and
                                              `audio_prompt_embeds`; `prompt_attention_mask`
    masks/                                    `masks` (f, h, w), 1 = face (JUST-DUB-IT), or
    video_masks/                              `mask` (f, h, w), 1 = given and not learned (official trainer)

One .pt file a clip in each, of the same name. They are read with ``weights_only`` and taken over into the cache, where
they are named by their bytes. There is no text for passes without a prompt in such a folder: it is encoded here.

Letters: C channels, f/h/w video latents' grid, T audio latents, M mel bins, L text tokens, D width.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from justdub.backbone import checkpoint
from justdub.backbone.checkpoint import Backbone
from justdub.errors import BadInputError, JustDubError, MissingError
from justdub.training.cache import Cache, Cut, Sample, digest_of_file, text_name
from justdub.training.dataset import Fault, Pair
from justdub.training.precompute import TEXT_PARTS, CachedPair, Encoded, Report, check_broken

TARGET, REFERENCE, AUDIO, AUDIO_REFERENCE, TEXT = (
    "latents", "reference_latents", "audio_latents", "reference_audio_latents", "conditions",
)  # fmt: skip
_FRAME_RATE = 25.0  # of files that do not say


def take_over(
    folder: Path,
    cache: Cache,
    load: Callable[[], Backbone],
    *,
    broken_limit: float = 0.05,
    downscale: int = 1,
    text_encoder: Path | None = None,
    report: Report | None = None,
) -> Encoded:
    """Read a `.precomputed` folder into the cache. text_encoder: see `precompute.Encoder`.

    Raises:
        MissingError: no such folder, or a part of it is missing.
        BadInputError: more than `broken_limit` of its clips cannot be used.
    """
    report = report or (lambda stage, done, total: None)
    for part in (TARGET, REFERENCE, AUDIO, AUDIO_REFERENCE, TEXT):
        if not (folder / part).is_dir():
            raise MissingError(f"{folder} has no {part}", expected="a .precomputed folder with audio and references")
    names = sorted(path.relative_to(folder / TARGET) for path in (folder / TARGET).rglob("*.pt"))
    if not names:
        raise BadInputError(f"{folder / TARGET} holds no .pt files", expected="one for each clip")
    backbone = load()
    parts = checkpoint.fingerprint(backbone.folder, TEXT_PARTS, text_encoder=text_encoder)
    null = text_name(backbone.card.negative_prompt, parts)
    if not cache.text_path(null).exists():
        cache.write_text(null, backbone.text.encode(backbone.card.negative_prompt))
    found, faults = [], []
    for number, name in enumerate(names, 1):
        try:
            found.append(_clip(folder, name, number, cache, backbone, parts, downscale))
        except JustDubError as error:
            faults.append(Fault(number, f"{name}: {error}"))
            check_broken(faults, len(names), broken_limit)
        report("precompute", number, len(names))
    return Encoded(cache, tuple(found), tuple(faults), null)


def count_files(folder: Path) -> int:
    """Clips in a `.precomputed` folder, by their target's latents."""
    return sum(1 for _ in (folder / TARGET).rglob("*.pt"))


def _clip(
    folder: Path, name: Path, number: int, cache: Cache, backbone: Backbone, parts: str, downscale: int
) -> CachedPair:
    files = {part: folder / part / name for part in (TARGET, REFERENCE, AUDIO, AUDIO_REFERENCE, TEXT)}
    mask = next((folder / part / name for part in ("masks", "video_masks") if (folder / part / name).is_file()), None)
    for part, path in files.items():
        if not path.is_file():
            raise BadInputError(f"no {part} of it")
    digests = [digest_of_file(path) for path in (*files.values(), *([mask] if mask else []))]
    sample_name, prompt_name = text_name(" ".join(digests), "precomputed"), text_name(digests[-1 - bool(mask)], parts)
    target = _read(files[TARGET])
    rate = Fraction(float(target.get("fps") or _FRAME_RATE)).limit_denominator(1001)
    sample = Sample(
        _tensor(target, "latents", 4, files[TARGET]),
        _tensor(_read(files[REFERENCE]), "latents", 4, files[REFERENCE]),
        _tensor(_read(files[AUDIO]), "latents", 3, files[AUDIO]),
        _tensor(_read(files[AUDIO_REFERENCE]), "latents", 3, files[AUDIO_REFERENCE]),
        None if mask is None else _mask(mask),
        rate,
    )
    _check(sample, backbone)
    if not cache.sample_path(sample_name).exists():
        cache.write_sample(sample_name, sample)
    if not cache.text_path(prompt_name).exists():
        cache.write_text(prompt_name, _text(files[TEXT], backbone))
    geometry = backbone.transformer.geometry
    frames, height, width = sample.video_target_Cfhw.shape[1:]
    cut = Cut(
        width * geometry.pixels_per_latent,
        height * geometry.pixels_per_latent,
        1 + (frames - 1) * geometry.frames_per_latent,
        downscale,
    )
    pair = Pair(files[TARGET], files[REFERENCE], mask, "", number)
    return CachedPair(pair, sample_name, (prompt_name,), cut, rate)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInputError(f"{path.parent.name} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise BadInputError(f"{path.parent.name} holds no named tensors")
    return content


def _tensor(content: dict[str, Any], key: str, dims: int, path: Path) -> Tensor:
    tensor = content.get(key)
    if not isinstance(tensor, Tensor) or tensor.ndim != dims:
        found = f"of {tensor.ndim} dimensions" if isinstance(tensor, Tensor) else "missing"
        raise BadInputError(f"{path.parent.name}: {key} is {found}", expected=f"a tensor of {dims} dimensions")
    if not torch.isfinite(tensor).all():
        raise BadInputError(f"{path.parent.name}: {key} holds values that are not finite")
    return tensor


def _mask(path: Path) -> Tensor:
    """(f, h, w), 1 = face."""
    content = _read(path)
    if "masks" in content:
        return _tensor(content, "masks", 3, path).float()
    return 1 - _tensor(content, "mask", 3, path).float()


def _check(sample: Sample, backbone: Backbone) -> None:
    config, patch = backbone.transformer.module.config, backbone.transformer.geometry.patch
    channels = sample.video_target_Cfhw.shape[0] * patch**2
    audio = sample.audio_target_CTM.shape[0] * sample.audio_target_CTM.shape[2]
    if (channels, audio) != (config.in_channels, config.audio_in_channels):
        raise BadInputError(
            f"latents of {channels} video and {audio} audio channels a token",
            expected=f"{config.in_channels} and {config.audio_in_channels}, as of this backbone",
        )
    if sample.mask_fhw is not None and sample.mask_fhw.shape != sample.video_target_Cfhw.shape[1:]:
        raise BadInputError(f"a mask of {tuple(sample.mask_fhw.shape)}", expected="the grid of the target's latents")


def _text(path: Path, backbone: Backbone) -> Any:
    content = _read(path)
    video, audio = ("video_prompt_embeds", "audio_prompt_embeds")
    if video not in content:
        video = audio = "prompt_embeds"
    mask_L = _tensor(content, "prompt_attention_mask", 1, path)
    return backbone.text.connect(
        _tensor(content, video, 2, path)[None], _tensor(content, audio, 2, path)[None], mask_L[None].long()
    )
