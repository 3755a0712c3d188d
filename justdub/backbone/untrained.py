"""Write a checkpoint folder of the LTX-2 classes with random weights (`python -m justdub.backbone.untrained DIR`).

It has every part, file and ratio of a real one (8x in time, 32x32 in space, 25 audio latents a second), in two
megabytes. Tests and the full-size benchmark build other sizes with it, and pretraining starts from its parts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from justdub.backbone.checkpoint import Card

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")


@dataclass(frozen=True)
class Size:
    """Widths and ratios of a checkpoint.

    Attributes:
        video_channels: of a video latent; audio_channels: of an audio latent, which has `mel_bins` / 4 bins.
        patch: video latents a side that make one token.
        ratios: what a video latent covers, (frames, pixels, pixels).
        registers: learned tokens that fill the padding of prompts; None leaves padding out.
    """

    video_heads: int = 4
    video_head_dim: int = 24
    audio_heads: int = 4
    audio_head_dim: int = 16
    layers: int = 4
    video_channels: int = 16
    patch: int = 1
    audio_channels: int = 2
    mel_bins: int = 64
    ratios: tuple[int, int, int] = (8, 32, 32)
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 2
    text_window: int = 64
    text_tokens: int = 512
    connector_layers: int = 1
    registers: int | None = 16


def byte_tokenizer(max_tokens: int) -> Any:
    """A tokenizer whose tokens are the bytes of UTF-8: 260 ids, any language, no vocabulary to ship."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[byte] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=max_tokens,
    )


def text_encoder(size: Size) -> Any:
    """A Gemma 3 over bytes."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text_config = {
        "vocab_size": 260,
        "hidden_size": size.text_width,
        "intermediate_size": 2 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads,
        "num_key_value_heads": size.text_heads // 2,
        "head_dim": size.text_width // size.text_heads,
        "sliding_window": size.text_window,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    vision_config = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text_config,
            vision_config=vision_config,
            mm_tokens_per_image=1,
            boi_token_index=4,
            eoi_token_index=5,
            image_token_index=6,
        )
    )


def connectors(size: Size) -> Any:
    """From the text encoder's states to the context of each stream."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    connector = {
        "num_attention_heads": size.text_heads,
        "attention_head_dim": size.text_width // size.text_heads,
        "num_layers": size.connector_layers,
        "num_learnable_registers": size.registers,
    }
    return LTX2TextConnectors(
        caption_channels=size.text_width,
        text_proj_in_factor=size.text_layers + 1,
        **{f"{stream}_connector_{k}": v for stream in ("video", "audio") for k, v in connector.items()},
        connector_rope_base_seq_len=size.text_tokens,
        rope_type="split",
    )


def transformer(size: Size) -> Any:
    """The joint transformer."""
    from diffusers import LTX2VideoTransformer3DModel

    audio_tokens = size.audio_channels * size.mel_bins // 4
    return LTX2VideoTransformer3DModel(
        in_channels=size.video_channels * size.patch**2,
        out_channels=size.video_channels * size.patch**2,
        patch_size=size.patch,
        num_attention_heads=size.video_heads,
        attention_head_dim=size.video_head_dim,
        cross_attention_dim=size.video_heads * size.video_head_dim,
        audio_in_channels=audio_tokens,
        audio_out_channels=audio_tokens,
        audio_num_attention_heads=size.audio_heads,
        audio_attention_head_dim=size.audio_head_dim,
        audio_cross_attention_dim=size.audio_heads * size.audio_head_dim,
        num_layers=size.layers,
        caption_channels=size.text_width,
        vae_scale_factors=size.ratios,
        rope_type="split",
    )


def build(size: Size = Size(), *, seed: int = 0) -> Any:
    """An `LTX2Pipeline` of the given widths with random weights (its video VAE is 8x and 32x32)."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
    )
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    torch.manual_seed(seed)
    text, connected, joint = text_encoder(size), connectors(size), transformer(size)
    vae = AutoencoderKLLTX2Video(
        latent_channels=size.video_channels,
        block_out_channels=(8, 8, 16, 16),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
        decoder_causal=False,
        decoder_spatial_padding_mode="zeros",
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=size.audio_channels * size.mel_bins // 4,
        ch_mult=(1, 1, 1),
        num_res_blocks=1,
        resolution=size.mel_bins,
        latent_channels=size.audio_channels,
        mel_bins=size.mel_bins,
    )
    vocoder = LTX2Vocoder(
        in_channels=2 * size.mel_bins,
        hidden_channels=16,
        out_channels=2,
        upsample_kernel_sizes=[20, 16, 4],
        upsample_factors=[10, 8, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
        output_sampling_rate=16000,
    )
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=text,
        tokenizer=byte_tokenizer(size.text_tokens),
        connectors=connected,
        transformer=joint,
        vocoder=vocoder,
    )


def write(folder: str | Path, card: Card, *, size: Size = Size(), seed: int = 0) -> None:
    """Build and save a checkpoint folder with its card, in half precision."""
    folder = Path(folder)
    build(size, seed=seed).to(torch.bfloat16).save_pretrained(folder)
    (folder / "justdub.json").write_text(
        json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


CARD = Card(
    name="untrained",
    notice="this backbone is untrained: the output is noise of the right shape",
    licence="Apache-2.0",
    size=(96, 96),
    steps=8,
    guidance=3.0,
    audio_guidance=3.0,
    stg_blocks=(2,),
)

if __name__ == "__main__":
    write(sys.argv[1], CARD)
