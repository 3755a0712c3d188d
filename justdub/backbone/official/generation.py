"""Which generation of LTX-2 an official file is: by its metadata, checked against its keys."""

from __future__ import annotations

import re

from justdub.backbone.official.file import OfficialFile
from justdub.errors import BadInputError

GENERATIONS = ("2.0", "2.3", "2.5")


def detect(file: OfficialFile) -> str:
    """One of `GENERATIONS`.

    2.3 brought text modulation and per-head gates; 2.5 took the biases of the video's feed-forward away.

    Raises:
        BadInputError: the metadata says another generation than the keys.
    """
    by_keys = _by_keys(file)
    said = re.match(r"v?(\d+)\.(\d+)", file.version)
    if said is None:
        return by_keys
    number = (int(said[1]), int(said[2]))
    by_version = max((g for g in GENERATIONS if tuple(map(int, g.split("."))) <= number), default=None)
    if by_version != by_keys:
        raise BadInputError(
            f"{file.path} says that it is model version {file.version}, its keys are those of LTX-{by_keys}",
            expected="a checkpoint as it was published",
        )
    return by_keys


def _by_keys(file: OfficialFile) -> str:
    if file.has(".ff.net.2.weight") and not file.has("transformer_blocks.0.ff.net.2.bias"):
        return "2.5"
    return "2.3" if file.has("prompt_scale_shift_table") else "2.0"
