"""All parts of an official file and its text encoder, as the diffusers pipeline that a folder would load into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from justdub.backbone.official import generation as generations
from justdub.backbone.official.audio import read_audio_vae, read_vocoder
from justdub.backbone.official.connectors import read_connectors
from justdub.backbone.official.file import OfficialFile
from justdub.backbone.official.text_encoder import find_text_encoder
from justdub.backbone.official.transformer import read_transformer
from justdub.backbone.official.video_vae import read_video_vae


def load_pipeline(path: str | Path, *, text_encoder: Path | None, dtype: torch.dtype) -> Any:
    """An `LTX2Pipeline` of an official single file.

    Args:
        text_encoder: folder of the language model.
        dtype: of all parts but the audio VAE and the vocoder, which are float32. Tensors that the file holds in that
            type stay in its memory map.

    Raises:
        BadInputError: damaged, incomplete, quantised, or keys that do not fit; a text encoder that does not fit.
        MissingError: no text encoder.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline

    file = OfficialFile.open(path)
    file.check_complete()
    generation = generations.detect(file)
    connectors = read_connectors(file, dtype)
    states = (connectors.config.caption_channels, connectors.config.text_proj_in_factor)
    gemma = find_text_encoder(text_encoder, file, generation, states)
    vae, audio_vae = read_video_vae(file, dtype), read_audio_vae(file, torch.float32)
    pixels = vae.spatial_compression_ratio
    transformer = read_transformer(
        file,
        dtype,
        vae_scale_factors=(vae.temporal_compression_ratio, pixels, pixels),
        audio_sampling_rate=audio_vae.config.sample_rate,
        audio_hop_length=audio_vae.config.mel_hop_length,
    )
    vocoder = read_vocoder(file, torch.float32)
    language_model, tokenizer = gemma.load(dtype)  # last: by far the slowest to read
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=language_model,
        tokenizer=tokenizer,
        connectors=connectors,
        transformer=transformer,
        vocoder=vocoder,
    )
