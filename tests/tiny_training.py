"""A tiny backbone and encoded pairs for it, made once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from justdub.backbone import checkpoint, untrained
from justdub.backbone.checkpoint import Card
from justdub.backbone.text import TextContext
from justdub.training.cache import Cache, Cut, Sample
from justdub.training.dataset import Pair
from justdub.training.precompute import CachedPair, Encoded

SIZE = untrained.Size(
    video_heads=2, video_head_dim=12, audio_heads=2, audio_head_dim=8, layers=2, video_channels=6, audio_channels=2,
    text_width=16, text_heads=2, registers=None,
)  # fmt: skip
GRID, STEPS, TEXT = (3, 2, 2), 9, 5


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    untrained.write(folder, Card(name="tiny", size=(64, 64), steps=2, guidance=1.0, audio_guidance=1.0), size=SIZE)
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> checkpoint.Backbone:
    """A fresh one for each test: training changes the transformer's modules."""
    return checkpoint.load(tiny_folder)


def random_pairs(folder: Path, backbone: checkpoint.Backbone, count: int = 6, masks: str = "some") -> Encoded:
    """Encoded pairs of noise. masks: `some` (every other pair), `all` or `none`."""
    cache, generator = Cache(folder), torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config = backbone.pipeline.transformer.config
    channels, bins = SIZE.audio_channels, config.audio_in_channels // SIZE.audio_channels
    text_widths = [
        part.shape[-1] for part in (backbone.text.encode("x").video_BLD, backbone.text.encode("x").audio_BLD)
    ]
    pairs = []
    for number in range(count):
        mask = (noise(*GRID) > 0.5).float() if masks == "all" or (masks == "some" and number % 2) else None
        sample = Sample(
            noise(SIZE.video_channels, *GRID), noise(SIZE.video_channels, *GRID), noise(channels, STEPS, bins),
            noise(channels, STEPS, bins), mask, Fraction(25),
        )  # fmt: skip
        cache.write_sample(f"{number:032d}", sample)
        length = TEXT + number % 3
        cache.write_text(f"text{number}", TextContext(*(noise(1, length, width) for width in text_widths)))
        pair = Pair(Path(f"target{number}.mp4"), Path(f"reference{number}.mp4"), None, f"line {number}", number + 1)
        pairs.append(CachedPair(pair, f"{number:032d}", (f"text{number}",), Cut(64, 64, 17), Fraction(25)))
    cache.write_text("null", TextContext(*(noise(1, 2, width) for width in text_widths)))
    return Encoded(cache, tuple(pairs), (), "null")


@pytest.fixture
def pairs(tmp_path: Path, tiny: checkpoint.Backbone) -> Encoded:
    return random_pairs(tmp_path / "cache", tiny)


def one_process() -> SimpleNamespace:
    """What the loop reads of accelerate's object, for one process on the CPU."""
    from accelerate import Accelerator

    return Accelerator(cpu=True)
