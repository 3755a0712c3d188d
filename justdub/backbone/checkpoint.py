"""Find a backbone and load it: the bundled one, a diffusers-layout folder, or an official single file with a Gemma.

A folder may also be named by the id of a hub repository that is in the local hub cache. Nothing here asks which
checkpoint it is. What differs between checkpoints (name, working size, sampling defaults, a notice for the user) stands
in the folder's ``justdub.json``; a checkpoint without one gets the defaults of `Card`. Nothing is downloaded, pickles
are never opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from justdub.backbone.codecs import AudioCodec, VideoCodec
from justdub.backbone.text import TextEncoder
from justdub.backbone.transformer import JointTransformer
from justdub.errors import BadInputError, MissingError, UsageError

BUNDLED = "mini"
COMPONENTS = ("transformer", "vae", "audio_vae", "vocoder", "text_encoder", "tokenizer", "connectors", "scheduler")
FINGERPRINT_BLOCKS, FINGERPRINT_BLOCK_BYTES = 64, 1 << 16
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
PROMPT_TOKENS = 1024  # of all generations of LTX-2; the tokenizers of Gemma name no limit
STG_BLOCKS = {False: (29,), True: (28,)}  # without and with text modulation (LTX-2.3 and later)


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about itself (``justdub.json`` in its folder).

    Attributes:
        name: shown to the user and recorded in manifests and adapters.
        notice: one line for the user on every run, empty for none.
        licence: of the weights.
        size: (width, height) in pixels that the model was trained at; clips are worked on at about this many pixels.
        steps, guidance, audio_guidance: sampling defaults.
        negative_prompt: text of the pass without a prompt.
        stg_blocks: blocks that spatio-temporal guidance skips.
        round_trip_db: PSNR that the video codec keeps of footage like that it was trained on; a clip that comes out
            well below is foreign to the model, and the user is told (0 = unknown, no check).
        schedule_tokens: token count that sets the shift of the noise schedule (`flow.schedule`).
    """

    name: str = "unnamed checkpoint"
    notice: str = ""
    licence: str = "unknown"
    size: tuple[int, int] = (960, 544)
    steps: int = 30
    guidance: float = 3.0
    audio_guidance: float = 3.0
    negative_prompt: str = ""
    stg_blocks: tuple[int, ...] = (29,)
    schedule_tokens: int = 4096
    round_trip_db: float = 0.0

    @property
    def sampling(self) -> dict[str, float]:
        """The sampling defaults, as an adapter would say them."""
        return {"steps": self.steps, "guidance": self.guidance, "audio_guidance": self.audio_guidance}

    @classmethod
    def read(cls, folder: Path) -> Card:
        path = folder / "justdub.json"
        if not path.is_file():
            return cls(name=folder.stem if folder.is_file() else folder.name)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON ({error})", expected="the card of a checkpoint") from error
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise BadInputError(f"{path} has the unknown key {unknown[0]!r}", expected=", ".join(sorted(known)))
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})


@dataclass(frozen=True)
class Backbone:
    """A loaded checkpoint, frozen, in the parts that the program uses. `folder` may be an official single file."""

    card: Card
    folder: Path
    fingerprint: str
    transformer: JointTransformer
    text: TextEncoder
    video_codec: VideoCodec
    audio_codec: AudioCodec
    pipeline: Any = field(repr=False)  # the diffusers pipeline that holds the modules


def find(name: str | Path) -> Path:
    """A backbone on this machine: `mini`, a local path, or a hub id that is in the hub's cache.

    Returns:
        A folder in diffusers layout, or an official single file.

    Raises:
        MissingError: no such path, or a hub id that is not on this machine (nothing is fetched unasked).
        BadInputError: the path is neither of the two.
    """
    if str(name) == BUNDLED:
        return Path(__file__).parent / BUNDLED
    expected = "a folder in diffusers layout, an official .safetensors file, or 'mini'"
    path = _local(name, f"no backbone at {name}", expected)
    if path.suffix in PICKLES:
        raise BadInputError(f"{path} is a pickle, which could run code when opened", expected=expected)
    if path.is_file() and path.suffix != ".safetensors":
        raise BadInputError(f"{path} is a file of another kind", expected=expected)
    if path.is_dir() and not (path / "model_index.json").is_file():
        files = sorted(path.glob("*.safetensors"))
        remedy = f"one of its files: {', '.join(file.name for file in files[:6])}" if files else ""
        raise BadInputError(f"{path} holds no model_index.json", expected=expected, remedy=remedy)
    return path


def _local(name: str | Path, found: str, expected: str) -> Path:
    """A path, or the newest snapshot of a hub id in the hub's cache.

    Raises:
        MissingError: neither; `found` and `expected` are its words.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) or str(name).endswith((".safetensors", *PICKLES)):
        raise MissingError(found, expected=expected, remedy="check the path")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        remedy = f"`hf download {name} --local-dir DIR` and pass DIR"
        raise MissingError(found, expected=f"{expected}, or a hub id in the local cache", remedy=remedy) from error


def fingerprint(folder: Path, parts: tuple[str, ...] = (), *, text_encoder: Path | None = None) -> str:
    """Identity of a checkpoint's weights without reading them all (16 hex digits).

    A digest of every config and, of every safetensors file, its size, its header and 64 blocks of 64 KiB spread evenly
    (a file below 4 MiB is read whole).

    Args:
        folder: or an official single file, whose parts are not told apart.
        parts: of these sub-folders alone.
        text_encoder: a folder that counts too (what an official file lacks).
    """
    digest = hashlib.sha256()
    if folder.is_file():
        _digest_weights(digest, folder)
    else:
        for root in [folder / part for part in parts] or [folder]:
            _digest_folder(digest, root, folder)
    if text_encoder is not None:
        _digest_folder(digest, text_encoder, text_encoder)
    return digest.hexdigest()[:16]


def _digest_folder(digest: Any, root: Path, named_from: Path) -> None:
    for path in sorted(root.rglob("*")):
        if path.suffix == ".json" and path.name != "justdub.json":
            digest.update(path.relative_to(named_from).as_posix().encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            digest.update(path.relative_to(named_from).as_posix().encode())
            _digest_weights(digest, path)


def _digest_weights(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        header = file.read(8)
        digest.update(header + file.read(min(int.from_bytes(header, "little"), size)))
        for block in range(FINGERPRINT_BLOCKS):
            file.seek(size * block // FINGERPRINT_BLOCKS)
            digest.update(file.read(FINGERPRINT_BLOCK_BYTES))


def load(
    name: str | Path = BUNDLED,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    text_encoder: str | Path | None = None,
) -> Backbone:
    """Load a backbone, frozen and in evaluation mode.

    Args:
        name: `mini`, a folder in diffusers layout, an official single file, or a hub id in the local cache.
        device: where the modules live.
        dtype: of transformer, text encoder and video VAE. Audio VAE and vocoder stay float32 (bf16 audio encoding
            shifts training against inference; the 2.3 vocoder loses 40-90 % of its spectral accuracy in bf16).
        text_encoder: folder (or cached hub id) of the Gemma that an official single file needs.

    Raises:
        MissingError, BadInputError: with the file that is missing or broken.
        UsageError: a text encoder for a folder that has its own.
    """
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    path = find(name)
    if path.is_file():
        from justdub.backbone.official import load_pipeline

        if text_encoder is not None:
            expected = "a folder with a Gemma and its tokenizer"
            text_encoder = _local(text_encoder, f"no text encoder at {text_encoder}", expected)
        pipeline = load_pipeline(path, text_encoder=text_encoder, dtype=dtype)
    elif text_encoder is not None:
        raise UsageError(f"--text-encoder for {path}, which has its own", expected="an official single file with it")
    else:
        pipeline = _load_folder(path, dtype)
    _check_parts_agree(path, pipeline)
    pipeline.tokenizer.model_max_length = min(pipeline.tokenizer.model_max_length, PROMPT_TOKENS)
    pipeline.to(device)
    for component in COMPONENTS:
        if isinstance(module := getattr(pipeline, component), torch.nn.Module):
            module.requires_grad_(False).eval()
    transformer = JointTransformer(pipeline.transformer)
    card = Card.read(path)
    if not (path / "justdub.json").is_file():
        card = replace(card, stg_blocks=STG_BLOCKS[transformer.cross_timestep])
    return Backbone(
        card=card,
        folder=path,
        fingerprint=fingerprint(path),
        transformer=transformer,
        text=TextEncoder(pipeline),
        video_codec=VideoCodec(pipeline.vae),
        audio_codec=AudioCodec(pipeline.audio_vae, pipeline.vocoder),
        pipeline=pipeline,
    )


def _load_folder(folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline of a folder in diffusers layout."""
    from diffusers import LTX2Pipeline
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    remedy = "download the folder again"
    for component in COMPONENTS:
        if index.get(component, [None])[0] is None or not (folder / component).is_dir():
            raise MissingError(f"{folder} has no {component}", expected=", ".join(COMPONENTS), remedy=remedy)
        for listing in (folder / component).glob("*.safetensors.index.json"):
            shards = set(json.loads(listing.read_text(encoding="utf-8"))["weight_map"].values())
            absent = sorted(shard for shard in shards if not listing.with_name(shard).is_file())
            if absent:
                raise MissingError(
                    f"{folder / component} lacks {len(absent)} of {len(shards)} shards ({absent[0]})", remedy=remedy
                )
    try:
        return LTX2Pipeline.from_pretrained(
            folder,
            dtype={"default": dtype, "audio_vae": torch.float32, "vocoder": torch.float32},
            local_files_only=True,
            use_safetensors=True,
        )
    except SafetensorError as error:
        raise BadInputError(f"a weight file in {folder} is damaged: {error}", remedy="download it again") from error
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"{folder} cannot be loaded: {error}", expected="LTX-2 classes and safetensors") from error


def _check_parts_agree(folder: Path, pipeline: Any) -> None:
    """Positions are computed from the transformer's config, latents by the VAEs: they must mean the same grid."""
    config, vae, audio = pipeline.transformer.config, pipeline.vae, pipeline.audio_vae
    said = tuple(config.vae_scale_factors)
    real = (vae.temporal_compression_ratio, vae.spatial_compression_ratio, vae.spatial_compression_ratio)
    if said != real:
        raise BadInputError(
            f"{folder}: the transformer counts on latents of {said}, the video VAE makes {real} (time, height, width)",
            expected="parts of one checkpoint",
        )
    channels = audio.config.latent_channels * audio.config.mel_bins // audio.mel_compression_ratio
    made = (vae.config.latent_channels * config.patch_size**2, channels)
    if (config.in_channels, config.audio_in_channels) != made:
        raise BadInputError(
            f"{folder}: the transformer reads {config.in_channels} video and {config.audio_in_channels} audio "
            f"channels, the VAEs make {made[0]} and {made[1]}",
            expected="parts of one checkpoint",
        )
    text, connectors = pipeline.text_encoder.config.get_text_config(), pipeline.connectors.config
    states = (text.hidden_size, text.num_hidden_layers + 1)
    if states != (connectors.caption_channels, connectors.text_proj_in_factor):
        raise BadInputError(
            f"{folder}: the text encoder gives {states[1]} states of width {states[0]}, the connectors read "
            f"{connectors.text_proj_in_factor} of width {connectors.caption_channels}",
            expected="parts of one checkpoint",
        )


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on an accelerator, float32 on the CPU; else the named type."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in names:
        raise UsageError(f"dtype {name!r}", expected=", ".join(["auto", *names]))
    return names[name]


def choose_device(name: str) -> torch.device:
    """`auto`: CUDA, then MPS, then CPU; else the named device, which must exist."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MissingError(f"device {name!r} is not available", expected="auto, cpu, cuda, cuda:1 or mps") from error
    return device
