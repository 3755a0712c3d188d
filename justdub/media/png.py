"""Pictures as PNG (RFC 2083), with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def write_png(path: Path, picture: np.ndarray) -> None:
    """An 8-bit RGB picture (H, W, 3) as PNG: signature, IHDR, one IDAT, IEND; written atomically."""
    height, width, _ = picture.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), picture.reshape(height, -1)), 1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    partial.replace(path)
