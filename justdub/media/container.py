"""Opening a media file safely: no playlists, no network, one clear line for every file that is not a clip."""

from __future__ import annotations

from pathlib import Path

from justdub.errors import BadInputError

# Playlists and scripts (hls, dash, concat, ...) are left out on purpose: they open other files.
FORMATS = (
    "mov,matroska,webm,mpegts,mpeg,avi,flv,asf,ogg,mxf,nut,ivf,h264,hevc,mpegvideo,m4v,dv,rm,gif,apng,"
    "wav,mp3,aac,ac3,flac,amr,aiff,caf,w64,"
    "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,jpegxl_pipe,jpegls_pipe,psd_pipe,exr_pipe,ico"
)
OPEN_OPTIONS = {"protocol_whitelist": "file,pipe", "format_whitelist": FORMATS}

_A_CLIP = "a video file such as .mp4, .mov, .mkv, .webm or .ts"


def media_url(path: Path) -> str:
    """The path as ffmpeg must be given it: absolute and with the protocol named, so that ':' and '-' stay letters."""
    return f"file:{path}"


def check_input(path: str | Path) -> Path:
    """Return the absolute path of an existing, readable, non-empty file; else raise `BadInputError`."""
    path = Path(path).expanduser()
    try:
        absolute = path.absolute()
        if not absolute.exists():
            remedy = "check the path" if absolute.parent.is_dir() else f"check the folder {absolute.parent}"
            raise BadInputError(f"{path}: no such file", expected=_A_CLIP, remedy=remedy)
        if absolute.is_dir():
            raise BadInputError(f"{path} is a folder", expected=_A_CLIP, remedy="name a file in it")
        if not absolute.is_file():
            raise BadInputError(f"{path} is not a regular file", expected=_A_CLIP, remedy="copy it to a file first")
        if absolute.stat().st_size == 0:
            raise BadInputError(f"{path} is empty (0 bytes)", expected=_A_CLIP, remedy="copy or download it again")
        with absolute.open("rb"):
            return absolute
    except PermissionError as error:
        raise BadInputError(
            f"{path} cannot be read: permission denied", expected="a readable file", remedy="chmod u+r on it"
        ) from error
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path!s:.200} cannot be read: {error}", expected=_A_CLIP) from error


def open_container(path: Path):
    """Open a checked path with PyAV. Returns an `av.container.InputContainer`; the caller closes it.

    Raises:
        BadInputError: the bytes are no media file, or one of a kind that is refused (playlists).
    """
    import av

    av.logging.set_level(None)  # the library's own lines would interleave with ours; errors still raise
    try:
        return av.open(media_url(path), options=OPEN_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(64)
        raise _unreadable(path, head) from error


def _unreadable(path: Path, head: bytes) -> BadInputError:
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        return BadInputError(
            f"{path} is an mp4/mov file without its index (no moov box): the recording or download was interrupted",
            expected="a complete file",
            remedy="copy or record it again, or repair it with a tool such as untrunc",
        )
    if head.lstrip(b"\xef\xbb\xbf").startswith((b"#EXTM3U", b"ffconcat", b"<?xml", b"[playlist]")):
        return BadInputError(
            f"{path} is a playlist or a script, not a clip", expected=_A_CLIP, remedy="pass the media file it names"
        )
    text = bool(head) and all(byte in b"\t\r\n" or byte >= 32 for byte in head)
    kind = "is a text file" if text else "is not a media file that can be read"
    return BadInputError(f"{path} {kind}", expected=_A_CLIP, remedy="check that the download finished and is a video")
