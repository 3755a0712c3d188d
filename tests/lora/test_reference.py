"""How users name adapters: paths with colons, strengths, strengths per stream."""

from __future__ import annotations

import pytest

from justdub.errors import UsageError
from justdub.lora.reference import Strength, parse_reference


@pytest.mark.parametrize(
    ("text", "name", "strength"),
    [
        ("fr", "fr", Strength()),
        ("a.safetensors:0.8", "a.safetensors", Strength(0.8, 0.8, 0.8)),
        ("dir:with/colon", "dir:with/colon", Strength()),
        ("dir:with/colon:-1", "dir:with/colon", Strength(-1, -1, -1)),
        ("C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", Strength()),
        ("C:\\loras\\a=b.safetensors", "C:\\loras\\a=b.safetensors", Strength()),
        ("fr:video=1,audio=0.5,cross=0.7", "fr", Strength(1, 0.5, 0.7)),
        ("dir/a.safetensors:audio=0", "dir/a.safetensors", Strength(1, 0, 1)),
    ],
)
def test_name_and_strength(text: str, name: str, strength: Strength) -> None:
    reference = parse_reference(text)
    assert (reference.name, reference.strength) == (name, strength)
    assert parse_reference(f"{name}:{strength}") == reference  # what is printed can be typed


@pytest.mark.parametrize("text", ["fr:11", "fr:nan", "fr:inf", "fr:vidio=1", "fr:video=", "fr:video=1,video=2",
                                  "fr:video=1,", "fr:audio=-99"])  # fmt: skip
def test_slips_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="adapter strength"):
        parse_reference(text)
