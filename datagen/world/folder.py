"""A folder of numbered results of the drawn world, each whole or not there: pairs, or clips of two lines.

DIR/clips/000017*.mp4   media
DIR/masks/000017.mp4    white on black
DIR/clips/000017.json   what is true of them; written last: a result without it is not there
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen import film
from justdub.errors import BadInputError


@dataclass(frozen=True)
class ClipFolder:
    """origin: what the bytes of all results depend on, for JSON. suffixes: of a result's clips ("" for a single one).

    Raises:
        BadInputError: nothing can be written there, or (when asked for a result) it holds those of another origin.
    """

    root: Path
    origin: Mapping[str, Any]
    suffixes: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        try:
            for folder in (self.root / "clips", self.root / "masks"):
                folder.mkdir(parents=True, exist_ok=True)
                film.put(folder / "try", b"")
                (folder / "try").unlink()
        except OSError as error:
            raise BadInputError(
                f"nothing can be written in {self.root}: {error.strerror}", remedy="choose another folder with --out"
            ) from error

    def clips(self, number: int) -> tuple[str, ...]:
        """Paths of a result's clips, as a list names them."""
        return tuple(f"clips/{number:06d}{suffix}.mp4" for suffix in self.suffixes)

    def mask(self, number: int) -> str:
        return f"masks/{number:06d}.mp4"

    def _facts(self, number: int) -> Path:
        return self.root / "clips" / f"{number:06d}.json"

    def find(self, number: int) -> dict[str, Any] | None:
        """What is true of a result that is whole, else None."""
        try:
            facts = json.loads(self._facts(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if facts["world"] != self.origin:
            raise BadInputError(
                f"{self.root} holds clips of another world ({facts['world']})",
                expected=f"{self.origin}",
                remedy="an empty folder for --out",
            )
        return facts if all((self.root / name).is_file() for name in (*self.clips(number), self.mask(number))) else None

    def add(
        self, number: int, clips: Iterable[bytes], mask_FHW: np.ndarray, facts: Mapping[str, Any], **rates: Any
    ) -> None:
        """Write a result: clips as `film.encode` makes them, the mask (bool), then the facts.

        Args:
            rates: of the mask, for `film.encode`.
        """
        for name, encoded in zip(self.clips(number), clips, strict=True):
            film.put(self.root / name, encoded)
        white_FHW3 = np.repeat(mask_FHW[..., None], 3, axis=-1).astype(np.uint8) * 255
        film.put(self.root / self.mask(number), film.encode(white_FHW3, None, **rates))
        self.put_json(f"clips/{number:06d}.json", {"world": self.origin} | dict(facts))

    def put_json(self, name: str, content: Any) -> None:
        film.put(self.root / name, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """In it, what the disk refuses becomes one line."""
        try:
            yield
        except OSError as error:
            raise BadInputError(
                f"{self.root} cannot be written: {error.strerror}", remedy="free space, or another --out"
            ) from error
