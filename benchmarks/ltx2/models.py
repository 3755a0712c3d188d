"""Models of random weights, made where they are used: no checkpoint, no copy in the host's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import nn

from benchmarks.ltx2.scale import Scale
from justdub.backbone import eight_bits


@contextmanager
def placed(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules that are built here live on `device` in `dtype` from the beginning."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(usual)


def transformer(scale: Scale, device: torch.device, *, seed: int = 0) -> LTX2VideoTransformer3DModel:
    """Frozen, bf16, with the classes' own random initialisation (nothing is zero)."""
    torch.manual_seed(seed)
    with placed(device, torch.bfloat16):
        return LTX2VideoTransformer3DModel(**scale.transformer).eval().requires_grad_(False)


def store_in_fp8(module: LTX2VideoTransformer3DModel) -> None:
    """Weights of the blocks in float8, as `--memory` does it."""
    eight_bits.store(module)


def weight_bytes(dtype: str) -> int:
    return 1 if dtype == "fp8" else 2


@dataclass(frozen=True)
class Codecs:
    """Makers of the three codecs, so that each is there only while it is measured."""

    video: Callable[[], Any]
    audio: Callable[[], Any]
    vocoder: Callable[[], Any]


def codecs(scale: Scale, device: torch.device) -> Codecs:
    """The published widths (defaults of the classes), or tiny ones. Video bf16, audio and vocoder float32."""
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    def made(build: Callable[[], nn.Module], dtype: torch.dtype) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            torch.manual_seed(0)
            with placed(device, dtype):
                return build().eval().requires_grad_(False)

        return make

    if scale.real_codecs:
        builds = (AutoencoderKLLTX2Video, AutoencoderKLLTX2Audio, LTX2Vocoder)
    else:
        from justdub.backbone import untrained

        tiny = untrained.build()
        builds = tuple(
            lambda part=part: part.to(device) for part in (tiny.vae.bfloat16(), tiny.audio_vae, tiny.vocoder)
        )
    video, audio, vocoder = builds
    return Codecs(made(video, torch.bfloat16), made(audio, torch.float32), made(vocoder, torch.float32))
