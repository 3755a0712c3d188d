"""Where a result goes: checked before any work, written under a hidden name, renamed when it is whole."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from justdub.errors import BadInputError, JustDubError, UsageError

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
_FULL = ("no space left on device", "file too large", "disk quota exceeded", "file size limit exceeded")
_FULL_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def check_output(path: str | Path, *, inputs: Iterable[str | Path] = (), suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Return the absolute output path, or raise before any work is done.

    An existing file is fine (it is replaced at the very end), unless it is one of `inputs`.

    Args:
        suffixes: those allowed, the one to propose first.

    Raises:
        UsageError: unknown suffix, a folder, a missing folder, or the same file as an input.
        BadInputError: nothing can be written in the folder.
    """
    path = Path(path).expanduser()
    absolute = path.absolute()
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"{path}: unknown output format {path.suffix!r}",
            expected="one of " + " ".join(suffixes),
            remedy=f"-o {path.with_suffix(suffixes[0]) if path.name else 'out' + suffixes[0]}",
        )
    if absolute.is_dir():
        raise UsageError(
            f"{path} is a folder", expected="the name of a file", remedy=f"-o {path / ('out' + suffixes[0])}"
        )
    folder = absolute.parent
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist", remedy=f"create it: mkdir -p '{folder}'")
    for one in map(Path, inputs):
        if absolute.exists() and one.exists() and absolute.samefile(one):
            raise UsageError(
                f"the output {path} is also an input",
                expected="another file",
                remedy=f"-o {path.with_stem(path.stem + '-dub')}",
            )
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".justdub-", suffix=".try") as probe_file:
            probe_file.write(b"0" * 4096)
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            raise disk_full(folder, 0, None) from error
        raise BadInputError(
            f"nothing can be written in {folder}: {error.strerror}", remedy="choose another folder with -o"
        ) from error
    return absolute


def hidden_name(path: Path, label: str, suffix: str) -> Path:
    """A free hidden name beside `path`; short whatever the length of `path`'s own name."""
    return path.parent / f".justdub-{secrets.token_hex(4)}-{label}{suffix}"


def is_disk_full(text: str) -> bool:
    """True if a message of ffmpeg or of the system says that the disk, the quota or the file is full."""
    return any(phrase in text.lower() for phrase in _FULL)


def disk_full(folder: Path, written: int, needed: int | None) -> JustDubError:
    """The error for a full disk: bytes written so far and, where it can be estimated, bytes needed in all."""
    try:
        status = os.statvfs(folder)
        free = f", {_megabytes(status.f_bavail * status.f_frsize)} are free"
    except (OSError, AttributeError):  # statvfs is POSIX only
        free = ""
    estimate = f"about {_megabytes(needed)} for this job" if needed else "room for the result"
    return BadInputError(
        f"no room left in {folder} after {_megabytes(written)}{free}",
        expected=estimate,
        remedy="free some space there, or choose another folder with -o",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
