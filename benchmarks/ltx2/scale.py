"""What is built: the sizes of the model, of the clip and of the ceilings' matrices. No torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from justdub.errors import UsageError

FRAME_RATE = 25
AUDIO_LATENTS_PER_SECOND = 25
VIDEO_CHANNELS, AUDIO_CHANNELS, MEL_BINS = 128, 8, 16  # of latents: 128 numbers a token in both streams


@dataclass(frozen=True)
class Resolution:
    """Of a clip, in pixels and frames, on the grid of the video VAE (32 pixels, 8k + 1 frames)."""

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Resolution:
        """From WIDTHxHEIGHTxFRAMES.

        Raises:
            UsageError: another form, or off the grid.
        """
        found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
        width, height, frames = map(int, found.groups()) if found else (0, 0, 0)
        if not width or not height or width % 32 or height % 32 or frames % 8 != 1:
            raise UsageError(
                f"resolution {text!r}", expected="WxHxF, W and H multiples of 32, F of 8 plus 1: 960x544x121"
            )
        return cls(width, height, frames)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"

    @property
    def grid(self) -> tuple[int, int, int]:
        """(F, H, W) of the latents."""
        return 1 + (self.frames - 1) // 8, self.height // 32, self.width // 32

    @property
    def audio_latents(self) -> int:
        return round(self.frames / FRAME_RATE * AUDIO_LATENTS_PER_SECOND)


@dataclass(frozen=True)
class Scale:
    """Attributes:
    transformer: arguments of `LTX2VideoTransformer3DModel`.
    text_tokens: of a prompt, padding filled with registers.
    resolution, train_resolution: unless the command line says otherwise.
    matmul, copy_bytes: of the device's ceilings.
    real_codecs: the published codecs' widths (the defaults of their classes), or tiny ones.
    """

    name: str
    transformer: dict[str, Any]
    text_tokens: int
    rank: int
    resolution: str
    train_resolution: str
    matmul: int
    copy_bytes: int
    real_codecs: bool


def _transformer(layers: int, heads: int, width: int, audio_width: int, caption: int) -> dict[str, Any]:
    return {
        "in_channels": VIDEO_CHANNELS,
        "out_channels": VIDEO_CHANNELS,
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "cross_attention_dim": width,
        "audio_in_channels": AUDIO_CHANNELS * MEL_BINS,
        "audio_out_channels": AUDIO_CHANNELS * MEL_BINS,
        "audio_num_attention_heads": heads,
        "audio_attention_head_dim": audio_width // heads,
        "audio_cross_attention_dim": audio_width,
        "num_layers": layers,
        "caption_channels": caption,
        "rope_type": "split",
    }


def _real(name: str, layers: int) -> Scale:
    return Scale(
        name,
        _transformer(layers, heads=32, width=4096, audio_width=2048, caption=3840),
        text_tokens=1024,
        rank=128,
        resolution="960x544x121",
        train_resolution="640x352x121",
        matmul=8192,
        copy_bytes=4 << 30,
        real_codecs=True,
    )


SCALES = {
    "full": _real("full", 48),  # LTX-2.0, 18.9 B parameters
    "half": _real("half", 24),
    "tiny": Scale(
        "tiny",
        _transformer(2, heads=2, width=64, audio_width=32, caption=24),
        text_tokens=32,
        rank=4,
        resolution="128x96x17",
        train_resolution="96x64x17",
        matmul=256,
        copy_bytes=16 << 20,
        real_codecs=False,
    ),
}
