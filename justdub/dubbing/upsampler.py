"""The latent x2 upsampler between the two stages: an `LTX2LatentUpsamplerModel` from a folder or an official file.

Letters: B batch, C channels, F/H/W latent grid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from justdub.backbone.codecs import VideoCodec
from justdub.errors import BadInputError, MissingError

FOLDER = "latent_upsampler"  # of a checkpoint in diffusers layout


class LatentUpsampler:
    """Doubles height and width of latents.

    Attributes:
        path: the file or folder that it came from.
    """

    def __init__(self, module: Any, path: Path) -> None:
        self.module, self.path = module.requires_grad_(False).eval(), path

    @classmethod
    def load(cls, path: str | Path, *, dtype: torch.dtype = torch.float32) -> LatentUpsampler:
        """Read one, on the CPU.

        Args:
            path: an official ``.safetensors`` file, a folder of the diffusers class, or a checkpoint folder that has
                one in ``latent_upsampler/``.

        Raises:
            MissingError: no such path.
            BadInputError: not safetensors, keys that do not fit, or an upsampler of another kind.
        """
        path = Path(path).expanduser()
        if (path / FOLDER / "config.json").is_file():
            path = path / FOLDER
        if not path.exists():
            raise MissingError(f"upsampler {path} does not exist", expected="a .safetensors file or a folder")
        module = _from_file(path) if path.is_file() else _from_folder(path)
        module = torch.nn.Module.to(module, dtype)  # diffusers' own `to` warns about a list that is empty here
        config = module.config
        doubles = config.spatial_upsample and not config.temporal_upsample
        if not doubles or (config.use_rational_resampler and config.rational_spatial_scale != 2.0):
            raise BadInputError(
                f"upsampler {path} does not double height and width", expected="the spatial x2 upsampler"
            )
        return cls(module, path)

    def check_fit(self, codec: VideoCodec) -> None:
        """Raise `BadInputError` unless it was made for latents of this codec's width."""
        made_for = self.module.config.in_channels
        if made_for != codec.latent_channels:
            raise BadInputError(
                f"upsampler {self.path} reads latents of {made_for} channels",
                expected=f"{codec.latent_channels}, as the backbone's video VAE makes",
            )

    @torch.no_grad()
    def __call__(self, latents_BCFHW: Tensor, codec: VideoCodec) -> Tensor:
        """(B, C, F, H, W) -> (B, C, F, 2H, 2W), both normalised; it works on the VAE's own scale."""
        module, (device, dtype) = self.module, (self.module.device, self.module.dtype)
        raw_BCFHW = codec.denormalise(latents_BCFHW.to(codec.vae.device)).to(device, dtype)
        return codec.normalise(module(raw_BCFHW).float().to(codec.vae.device))


def _from_folder(path: Path) -> Any:
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
    from safetensors import SafetensorError

    if not (path / "config.json").is_file():
        raise BadInputError(f"upsampler {path} holds no config.json", expected="a folder of the diffusers class")
    try:
        return LTX2LatentUpsamplerModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BadInputError(f"upsampler {path} cannot be loaded: {error}", expected="safetensors") from error


def _from_file(path: Path) -> Any:
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"upsampler {path} cannot be read: {error}", expected="a safetensors file") from error
    with torch.device("meta"):
        module = LTX2LatentUpsamplerModel(**_arguments(path, state))
    missing, unexpected = module.load_state_dict(state, strict=False, assign=True)
    if missing or unexpected:
        raise BadInputError(
            f"upsampler {path}: {len(missing)} keys missing and {len(unexpected)} unknown "
            f"({', '.join([*missing, *unexpected][:3])}, ...)",
            expected="the keys of an LTX-2 latent upsampler",
        )
    return module


def _arguments(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The model's arguments, read off the shapes of an official file (its names are those of the diffusers class)."""
    first = state.get("initial_conv.weight")
    if first is None:
        raise BadInputError(f"upsampler {path} has no initial_conv", expected="an official LTX-2 latent upsampler")
    rational = "upsampler.conv.weight" in state
    grown = state.get("upsampler.conv.weight" if rational else "upsampler.0.weight")
    middle = first.shape[0]
    blocks = {match[1] for key in state if (match := re.match(r"res_blocks\.(\d+)\.", key))}
    growth = 0 if grown is None else grown.shape[0] // middle
    if growth != 4 or grown.ndim != 4:
        raise BadInputError(f"upsampler {path} does not double height and width", expected="the spatial x2 upsampler")
    return {
        "in_channels": first.shape[1],
        "mid_channels": middle,
        "num_blocks_per_stage": len(blocks),
        "dims": first.ndim - 2,
        "use_rational_resampler": rational,
    }
