"""Frames and samples to latents and back, with the bundled backbone's real classes."""

from __future__ import annotations

import models
import numpy as np
import pytest
import torch

from justdub.backbone import checkpoint, codecs
from justdub.backbone.codecs import LOG_FLOOR, N_FFT, AudioCodec
from justdub.tokens import patchify_audio


@pytest.fixture(scope="module")
def backbone() -> checkpoint.Backbone:
    return checkpoint.load(models.mini_folder())


@pytest.mark.parametrize(("frames", "height", "width"), [(9, 96, 96), (17, 64, 128)])
def test_video_shapes_round_trip(backbone, frames: int, height: int, width: int) -> None:
    codec = backbone.video_codec
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    latents = codec.encode(pixels)
    grid = (1 + (frames - 1) // codec.temporal_ratio, height // codec.spatial_ratio, width // codec.spatial_ratio)
    config = backbone.transformer.module.config
    assert latents.shape == (1, config.in_channels // config.patch_size**2, *grid)
    assert latents.dtype == torch.float32
    assert not latents.is_inference(), "training reads latents under autograd"
    decoded = codec.decode(latents)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == torch.uint8


def test_off_grid_clips_are_refused(backbone) -> None:
    with pytest.raises(ValueError, match="off the grid"):
        backbone.video_codec.encode(np.zeros((10, 96, 96, 3), np.uint8))
    with pytest.raises(ValueError, match="off the grid"):
        backbone.video_codec.encode(np.zeros((9, 90, 96, 3), np.uint8))


def test_normalisation_is_the_checkpoints_statistics(backbone) -> None:
    """Shift and scale the statistics: latents follow, the decoded clip does not."""
    codec, vae = backbone.video_codec, backbone.pipeline.vae
    pixels = np.random.default_rng(1).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    plain, decoded = codec.encode(pixels), codec.decode(codec.encode(pixels))
    shift = 0.5 / vae.latents_std.float().view(1, -1, 1, 1, 1)
    try:
        vae.latents_mean += 0.5
        vae.latents_std *= 2
        assert torch.allclose(codec.encode(pixels), (plain - shift) / 2, atol=1e-5)
        assert (codec.decode(codec.encode(pixels)).int() - decoded.int()).abs().max() <= 1
    finally:
        vae.latents_mean -= 0.5
        vae.latents_std /= 2


@pytest.mark.parametrize("frames", [9, 121, 257])
def test_audio_latent_count_is_the_published_one(backbone, frames: int) -> None:
    """4.84 s (121 frames at 25) give 485 centred mel frames and 122 latents."""
    codec = backbone.audio_codec
    samples = round(frames / 25 * codec.sample_rate)
    latents = codec.encode(np.zeros((codec.channels, samples), np.float32))
    mels = 1 + samples // 160
    assert latents.shape[2] == 1 + -(-(mels - 1) // 4)
    if frames == 121:
        assert (mels, latents.shape[2]) == (485, 122)
    assert patchify_audio(latents).shape[2] == backbone.transformer.module.config.audio_in_channels
    decoded = codec.decode(latents)
    assert decoded.shape[0] == codec.output_channels
    assert abs(decoded.shape[1] / codec.output_rate - samples / codec.sample_rate) < 0.05


def test_audio_statistics_are_per_token_channel(backbone) -> None:
    """The checkpoint stores (channels x mel bins) numbers, the order of a token."""
    codec, vae = backbone.audio_codec, backbone.pipeline.audio_vae
    samples = np.random.default_rng(0).normal(0, 0.1, (codec.channels, 16000)).astype(np.float32)
    plain = patchify_audio(codec.encode(samples))
    try:
        vae.latents_mean[5] += 1.0
        moved = patchify_audio(codec.encode(samples))
    finally:
        vae.latents_mean[5] -= 1.0
    difference = (plain - moved).abs().amax(dim=(0, 1))
    step = 1 / vae.latents_std[5].item()
    assert difference[5].item() == pytest.approx(step, abs=1e-4 * step)
    assert difference.sum().item() == pytest.approx(step, abs=1e-4 * step)


def test_log_mel_of_a_tone_peaks_in_its_band(backbone) -> None:
    codec: AudioCodec = backbone.audio_codec
    time = torch.arange(16000) / 16000
    mel = codec.log_mel(0.5 * torch.sin(2 * torch.pi * 1000 * time).repeat(2, 1))
    assert mel.shape == (1, 2, 101, 64)
    # slaney scale: linear to 1 kHz at 3 mel per 200 Hz, 8 kHz is 45.245 mel; 64 bins share 65 steps
    expected = 1000 * 3 / 200 / (45.245 / 65) - 1
    assert abs(mel[0, 0, 50].argmax().item() - expected) <= 1
    assert mel.min().item() >= np.log(LOG_FLOOR) - 1e-6


def test_silence_is_the_floor(backbone) -> None:
    mel = backbone.audio_codec.log_mel(torch.zeros(2, N_FFT))
    assert torch.equal(mel, torch.full_like(mel, float(np.log(np.float32(LOG_FLOOR)))))


def test_audio_precision_does_not_follow_the_transformers() -> None:
    half = checkpoint.load(models.mini_folder(), dtype=torch.bfloat16)
    full = checkpoint.load(models.mini_folder())
    samples = np.random.default_rng(0).normal(0, 0.1, (full.audio_codec.channels, 8000)).astype(np.float32)
    assert half.transformer.dtype == torch.bfloat16
    assert torch.equal(half.audio_codec.encode(samples), full.audio_codec.encode(samples))


def test_filters_first_made_in_inference_mode_serve_training() -> None:
    codecs._mel_filters.cache_clear()
    with torch.inference_mode():
        codecs._mel_filters(16000, 64)
    assert not codecs._mel_filters(16000, 64).is_inference()
