"""Pictures and clips inside the page, as data.

Legend: H/W height/width, 3 RGB.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import numpy as np

from justdub.media.container import FORMATS, media_url
from justdub.media.ffmpeg import FfmpegProcess, ffmpeg_exe

_HEIGHT, _SECONDS = 240, 20  # of a player: enough to see and hear what went wrong


def jpeg(picture_HW3: np.ndarray, quality: int = 80) -> str:
    """A uint8 picture as a data address."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture_HW3)).save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def player(clip: Path) -> str:
    """A small copy of a clip (240 pixels high, 20 s at most) as a data address; raises FfmpegError where it fails."""
    with tempfile.TemporaryDirectory(prefix="justdub-") as folder:
        small = Path(folder) / "clip.mp4"
        argv = [ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", "-y"]
        argv += ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i", media_url(clip)]
        argv += ["-map", "0:v:0", "-map", "0:a:0?", "-t", str(_SECONDS), "-vf", f"scale=-2:{_HEIGHT}"]
        argv += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "27", "-pix_fmt", "yuv420p", "-threads", "1"]
        argv += ["-c:a", "aac", "-b:a", "80k", "-ac", "2", "-movflags", "+faststart", media_url(small)]
        FfmpegProcess(argv).finish()
        return "data:video/mp4;base64," + base64.b64encode(small.read_bytes()).decode()
