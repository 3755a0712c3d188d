"""What was measured of a clip is kept by the content that it was measured of.

    kept = Cache(folder).arrays("mel", [clip.digest, "80 bands"], lambda: {"mel_TM": log_mel(sound)})

Keys are digests of the clips' bytes, of the settings and of the kind of feature: a renamed clip is found again, a
changed one is not. A file that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import secrets
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

VERSION = "1"  # raise it when the meaning of any feature changes


def digest_file(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _by_parts(file)


def _by_parts(file) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


class Cache:
    """Named arrays in .npz files under a folder; without a folder everything is made anew."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def arrays(
        self, kind: str, parts: Sequence[object], make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Kept arrays, or what `make` returns (then kept). `parts`: everything that the result depends on."""
        if self.folder is None:
            return make()
        key = hashlib.sha256("\0".join([VERSION, kind, *map(str, parts)]).encode()).hexdigest()
        path = self.folder / kind / f"{key[:32]}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass  # not there yet, or damaged
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{secrets.token_hex(4)}.npz")
        try:
            np.savez_compressed(partial, **found)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return found
