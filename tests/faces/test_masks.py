"""Masks on the latent grid: grouped in time like the VAE, nothing thin is lost."""

from __future__ import annotations

import pytest
import torch

from justdub.faces.masks import to_latents, to_tokens
from justdub.sequence import Geometry

GEOMETRY = Geometry(frames_per_latent=8, pixels_per_latent=32)


@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2)])
def test_a_frame_belongs_to_the_latent_that_the_causal_vae_puts_it_in(frame: int, latent: int) -> None:
    mask = torch.zeros(17, 64, 32, dtype=torch.bool)
    mask[frame, 40, 3] = True
    found = to_latents(mask, GEOMETRY)
    assert found.shape == (3, 2, 1)
    assert found.nonzero().tolist() == [[latent, 1, 0]]


def test_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="off the grid"):
        to_latents(torch.zeros(16, 64, 64), GEOMETRY)


def test_tokens_take_the_largest_of_their_latents() -> None:
    mask = torch.zeros(1, 3, 4, 4)
    mask[0, 2, 1, 2] = 0.7
    assert to_tokens(mask, 2)[0, 2].tolist() == [[0, pytest.approx(0.7)], [0, 0]]
    assert to_tokens(mask, 1) is mask
