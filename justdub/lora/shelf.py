"""The shelf: find an adapter by name, list what is there. Light: headers are read without torch.

An adapter on a shelf is a folder ``NAME/`` with ``adapter.safetensors``, its card ``README.md`` and ``recipe.yaml``.
Shelves, first to last: the folders in ``$JUSTDUB_ADAPTERS`` (a path list), ``adapters/`` beside the package (a
checkout), ``share/justdub/adapters`` of the installation.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import site
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from justdub.errors import BadInputError, MissingError
from justdub.lora.metadata import RULES_KEY, AdapterMetadata

VARIABLE = "JUSTDUB_ADAPTERS"
FILE, CARD, RECIPE = "adapter.safetensors", "README.md", "recipe.yaml"
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # an adapter folder of peft
_NAME = re.compile(r"[\w][\w.+-]*")


@dataclass(frozen=True)
class ShelfEntry:
    """One adapter of a shelf, as its header and card describe it.

    Attributes:
        name: of its folder; what ``--adapter`` takes.
        title: first heading of its card, empty without one.
        languages, base: as its metadata says.
        rank: largest of its modules.
        parameters: in all factors.
        size: of the file in bytes.
    """

    name: str
    path: Path
    title: str
    languages: tuple[str, ...]
    base: str
    rank: int
    parameters: int
    size: int


def shelves() -> list[Path]:
    """The folders that are searched, in order; only those that exist."""
    own = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    beside = Path(__file__).resolve().parents[2] / "adapters"
    data = [sysconfig.get_path("data"), site.getuserbase()]
    installed = [Path(root) / "share" / "justdub" / "adapters" for root in data if root]
    found: dict[Path, None] = {}
    for folder in [*own, beside, *installed]:
        if folder.is_dir():
            found.setdefault(folder.resolve())
    return list(found)


def names() -> dict[str, Path]:
    """Name -> file of every adapter that can be found by name; the first shelf that has a name wins."""
    found: dict[str, Path] = {}
    for shelf in shelves():
        for folder in sorted(shelf.iterdir()):
            if (folder / FILE).is_file():
                found.setdefault(folder.name, folder / FILE)
    return found


def find(reference: str | Path) -> Path:
    """The adapter that a user means: a local path if there is one, else a name of the shelf.

    Returns:
        A file, or a peft folder.

    Raises:
        MissingError: neither, with the nearest name and what there is.
    """
    path = Path(reference).expanduser()
    if path.is_file() or (path / PEFT_CONFIG).is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    known = names()
    if str(reference) in known:
        return known[str(reference)]
    listing = (
        f"one of {', '.join(known)}, or a .safetensors file" if known else "a .safetensors file (no shelf has any)"
    )
    if path.is_dir():
        raise MissingError(f"adapter {reference} is a directory without {FILE}", expected=listing)
    near = difflib.get_close_matches(str(reference), known, 1)
    if not _NAME.fullmatch(str(reference)) or str(reference).endswith(".safetensors"):
        raise MissingError(f"adapter {reference} does not exist", expected=listing, remedy="check the path")
    raise MissingError(
        f"no adapter named {reference!r}", expected=listing, remedy=near[0] if near else f"a path, or set ${VARIABLE}"
    )


def name_of(path: Path) -> str:
    """What to call an adapter: its folder on a shelf, else the file's stem."""
    return path.parent.name if path.name in (FILE, PEFT_WEIGHTS) else path.stem


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(name: str, path: Path) -> ShelfEntry:
    """Read the header of a file and the title of its card.

    Raises:
        BadInputError: it is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    rank = parameters = 0
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118
                shape = file.get_slice(key).get_shape()
                parameters += math.prod(shape)
                if ".lora_A." in key or ".lora_down." in key:
                    rank = max(rank, shape[0])
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"adapter {path} cannot be read: {error}", expected="a safetensors file") from error
    card = path.with_name(CARD)
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    title = next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), "")
    # Without the rules, whose class lives beside the tensors: a listing has no need of torch.
    light = AdapterMetadata.from_strings(path, {key: value for key, value in header.items() if key != RULES_KEY})
    return ShelfEntry(name, path, title, light.languages, light.base, rank, parameters, path.stat().st_size)
