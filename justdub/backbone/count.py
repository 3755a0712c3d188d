"""What a backbone would need, counted from its configs alone: no weight is read, nothing is computed.

The modules are built on torch's ``meta`` device, and a pass over meta tensors is watched: every storage that an
operator makes is added while it lives. So the peak is that of the real code (processors, cache, positions included),
not of a formula. Attention is taken to need no matrix of queries times keys, as every kernel in use does without.

Letters: B batch, C channels, F/H/W latent grid, T audio latents, M mel bins, L text tokens, D width.
"""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from justdub.backbone import eight_bits
from justdub.errors import BadInputError, MissingError
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence
from justdub.tokens import Geometry

COUNTED_PARTS = ("transformer", "vae", "audio_vae", "vocoder", "connectors")


class LivePeak(TorchDispatchMode):
    """Largest sum of bytes that were alive at once of all tensors made within, in `peak`.

    Args:
        known: modules whose weights exist already.
    """

    def __init__(self, *known: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {
            t.untyped_storage()._cdata for module in known for t in (*module.parameters(), *module.buffers())
        }
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._add, result)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._live:
            return
        self._live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._live.discard(key)
        self.now -= size


class _NoScores(TorchFunctionMode):
    """Attention whose only new tensor is its output."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = kwargs.get("query", args[0] if args else None)
            return torch.empty_like(query)
        return func(*args, **kwargs)


@torch.no_grad()
def peak_bytes(run: Callable[[], Any], *known: torch.nn.Module) -> int:
    """Peak of the tensors that `run` makes, its result included."""
    with LivePeak(*known) as watch, _NoScores():
        result = run()
        del result
    return watch.peak


@dataclass(frozen=True)
class Shape:
    """A clip as the model sees it: padded frames, pixels, frames a second."""

    frames: int
    width: int
    height: int
    frame_rate: Fraction = Fraction(25)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


class Configs(Protocol):
    """Where a checkpoint's structure is read from."""

    def build(self, part: str, **changes: Any) -> torch.nn.Module:
        """One of `COUNTED_PARTS`; `changes` replace arguments."""

    def language_model(self) -> torch.nn.Module: ...


class FolderConfigs:
    """Of a folder in diffusers layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, part: str, **changes: Any) -> torch.nn.Module:
        import diffusers
        from diffusers.pipelines import ltx2

        path = self.folder / part / "config.json"
        if not path.is_file():
            raise BadInputError(f"{self.folder} has no {part}/config.json", expected="a folder in diffusers layout")
        config = json.loads(path.read_text(encoding="utf-8")) | changes
        name = str(config.get("_class_name", ""))
        kind = getattr(diffusers, name, None) or getattr(ltx2, name, None)
        if kind is None or "LTX2" not in name:
            raise BadInputError(f"{path} is of class {name!r}", expected="a class of LTX-2")
        return kind.from_config(config)

    def language_model(self) -> torch.nn.Module:
        return _language_model(self.folder / "text_encoder")


class FileConfigs:
    """Of an official single file, and the folder of its language model."""

    def __init__(self, path: Path, text_encoder: Path | None) -> None:
        from justdub.backbone.official import OfficialFile

        self.file, self.text_encoder = OfficialFile.open(path), text_encoder

    def build(self, part: str, **changes: Any) -> torch.nn.Module:
        from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
        from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
        from diffusers.pipelines import ltx2
        from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE

        from justdub.backbone.official import audio, connectors, transformer, video_vae

        kinds = {
            "transformer": (LTX2VideoTransformer3DModel, transformer.transformer_arguments),
            "connectors": (ltx2.LTX2TextConnectors, connectors.connector_arguments),
            "vae": (AutoencoderKLLTX2Video, video_vae.video_vae_arguments),
            "audio_vae": (AutoencoderKLLTX2Audio, audio.audio_vae_arguments),
            "vocoder": (ltx2.LTX2Vocoder, audio.vocoder_arguments),
        }
        kind, read = kinds[part]
        arguments = read(self.file)
        if part == "vocoder" and "bwe_in_channels" in arguments:
            kind = LTX2VocoderWithBWE
        return kind(**arguments | changes)

    def language_model(self) -> torch.nn.Module:
        folder = self.text_encoder
        if folder is None:
            raise MissingError(
                f"{self.file.path} holds no text encoder", expected="a folder of its Gemma", remedy="--text-encoder DIR"
            )
        return _language_model(folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder)


def configs_of(path: Path, text_encoder: Path | None = None) -> Configs:
    """Of a folder in diffusers layout, or of an official single file with the folder of its language model."""
    return FileConfigs(path, text_encoder) if path.is_file() else FolderConfigs(path)


def _language_model(folder: Path) -> torch.nn.Module:
    """Built from a config alone.

    Raises:
        MissingError: there is none.
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise MissingError(f"text encoder {folder} has no config.json", expected="the folder of a language model")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kinds = config.architectures or ["Gemma3ForConditionalGeneration"]
    return getattr(transformers, kinds[0])(config)


class Blueprint:
    """The parts of a checkpoint on the meta device.

    Args:
        path: a folder in diffusers layout (its configs are enough), or an official single file (its header is).
        text_encoder: folder of the language model, for a single file.
        dtype: of transformer, text encoder and video VAE.

    Raises:
        BadInputError, MissingError: a config is missing or is not of the LTX-2 classes.
    """

    def __init__(self, path: Path, *, dtype: torch.dtype, text_encoder: str | Path | None = None) -> None:
        self.dtype = dtype
        folder = None if text_encoder is None else Path(text_encoder).expanduser()
        self.configs = configs_of(path, folder)

    def _module(self, part: str, **changes: Any) -> torch.nn.Module:
        with torch.device("meta"):
            module = self.configs.build(part, **changes)
        dtype = torch.float32 if part in ("audio_vae", "vocoder") else self.dtype
        # diffusers' own `to` warns about a list of modules that is empty here
        return torch.nn.Module.to(module, dtype).requires_grad_(False).eval()

    @cached_property
    def layers(self) -> int:
        with torch.device("meta"):
            return len(self.configs.build("transformer").transformer_blocks)

    @cached_property
    def block(self) -> Any:
        """The transformer with a single block, its processors installed."""
        from justdub.backbone.transformer import JointTransformer

        return JointTransformer(self._module("transformer", num_layers=1))

    @cached_property
    def vae(self) -> torch.nn.Module:
        return self._module("vae")

    @property
    def geometry(self) -> Geometry:
        return self.block.geometry

    @property
    def mel_bins(self) -> int:
        """Latent ones."""
        return int(self.audio_vae.config.mel_bins) // self.block.module.config.audio_scale_factor

    @cached_property
    def audio_vae(self) -> Any:
        return self._module("audio_vae")

    @cached_property
    def connectors(self) -> Any:
        return self._module("connectors")

    # -- weights ------------------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> dict[str, int]:
        """Bytes of each part as it is loaded: transformer, text, video, audio."""
        block = sum(p.nbytes for p in self.block.module.transformer_blocks[0].parameters())
        rest = sum(p.nbytes for p in self.block.module.parameters()) - block
        with torch.device("meta"):
            model = self.configs.language_model().to(self.dtype)
        text, audio = _bytes(model) + _bytes(self.connectors), _bytes(self.audio_vae) + _bytes(self._module("vocoder"))
        return {"transformer": rest + self.layers * block, "text": text, "video": _bytes(self.vae), "audio": audio}

    @property
    def transformer_fp8(self) -> int:
        """Bytes of the transformer with its linear layers stored in eight bits."""
        total = self.weights["transformer"]
        for name, linear in eight_bits.linears(self.block.module):
            saved = _bytes(linear) - eight_bits.stored_bytes(linear)
            total -= saved * (self.layers if name.startswith("transformer_blocks.") else 1)
        return total

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of one transformer block."""
        return _bytes(self.block.module.transformer_blocks[0])

    # -- passes -------------------------------------------------------------------------------------------------------

    def tokens(self, shape: Shape) -> tuple[int, int]:
        """Video and audio target tokens of a clip."""
        plan = self.plan(shape, SequenceRules())
        return plan.layout.video.target, plan.layout.audio.target

    def plan(self, shape: Shape, rules: SequenceRules) -> SequencePlan:
        """The clip's sequence, on the meta device."""
        geometry, config = self.geometry, self.block.module.config
        channels = config.in_channels // geometry.patch**2
        frames = geometry.latent_frames(shape.frames)
        height, width = shape.height // geometry.pixels_per_latent, shape.width // geometry.pixels_per_latent
        mels = 1 + round(shape.frames / shape.frame_rate * geometry.sample_rate) // geometry.hop_length
        steps = 1 + -(-(mels - 1) // geometry.mels_per_latent)
        small = rules.reference_downscale
        with torch.device("meta"):
            video = torch.zeros(1, channels, frames, height, width)
            reference = torch.zeros(1, channels, frames, max(1, height // small), max(1, width // small))
            audio = torch.zeros(1, config.audio_in_channels // self.mel_bins, steps, self.mel_bins)
            return plan_sequence(
                video_target_BCFHW=video,
                audio_target_BCTM=audio,
                video_reference_BCFHW=reference,
                audio_reference_BCTM=audio,
                frame_rate=shape.frame_rate,
                geometry=geometry,
                rules=rules,
            )

    def denoising(
        self, shape: Shape, rules: SequenceRules, *, cached: bool, text_tokens: int = 1024
    ) -> tuple[int, int]:
        """Peak of one forward pass beside the weights, and the bytes of one reference cache (0 without)."""
        from justdub.backbone.text import TextContext

        module, plan = self.block.module, self.plan(shape, rules)
        width, audio_width = module.config.caption_channels, module.config.caption_channels
        if not getattr(module.config, "use_prompt_embeddings", True):
            width, audio_width = (getattr(module.config, f"{stream}cross_attention_dim") for stream in ("", "audio_"))
        with torch.device("meta"):
            text = TextContext(
                torch.zeros(1, text_tokens, width, dtype=self.dtype),
                torch.zeros(1, text_tokens, audio_width, dtype=self.dtype),
            )
            sigma_B = torch.ones(1)
        if not cached:
            return peak_bytes(lambda: self._pass(plan, text, sigma_B, None), module), 0
        kept = []
        first = peak_bytes(lambda: kept.append(self.block.prefill(plan.reference_only(), text)), module)
        layer = kept[0].nbytes
        bare = plan.without_reference()
        step = peak_bytes(lambda: self._pass(bare, text, sigma_B, kept[0]), module)
        return max(first - layer, step), layer * self.layers

    def _pass(self, plan: SequencePlan, text: Any, sigma_B: torch.Tensor, cache: Any) -> Any:
        sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
        return self.block.velocity(sequence, text, cache=cache)

    def encoding(self, shape: Shape) -> int:
        """Peak of encoding a clip's frames, the frames included."""

        def run() -> Any:
            pixels = torch.empty(1, 3, shape.frames, shape.height, shape.width, device="meta", dtype=self.dtype)
            return self.vae.encode(pixels).latent_dist.mode()

        return peak_bytes(run, self.vae)

    def decoding(self, shape: Shape, *, tiles: bool) -> int:
        """Peak of decoding a clip.

        Of tiles, that of one tile and of the finished frames: the tiles with their overlap, the blended ones, and all
        of them put together.
        """
        from justdub.backbone.codecs import TILE, TILE_STEP

        def run(frames: int, height: int, width: int) -> Any:
            grid = (
                self.geometry.latent_frames(frames),
                *(side // self.geometry.pixels_per_latent for side in (height, width)),
            )
            latents = torch.empty(1, self.vae.config.latent_channels, *grid, device="meta", dtype=self.dtype)
            step = torch.zeros(1, device="meta", dtype=self.dtype) if self.vae.config.timestep_conditioning else None
            return self.vae.decode(latents, step, return_dict=False)[0]

        sides, lengths = (shape.frames, shape.height, shape.width), (TILE[1] + 8, TILE[0], TILE[0])
        if not tiles or all(side <= length for side, length in zip(sides, lengths, strict=True)):
            return peak_bytes(lambda: run(*sides), self.vae)
        tile = peak_bytes(lambda: run(*map(min, sides, lengths)), self.vae)
        steps = (TILE_STEP[1], TILE_STEP[0], TILE_STEP[0])
        overlap = math.prod(
            length / step if side > length else 1 for side, length, step in zip(sides, lengths, steps, strict=True)
        )
        frames = 3 * math.prod(sides) * torch.finfo(self.dtype).bits // 8
        return tile + int((1 + overlap) * frames)


def _bytes(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())
