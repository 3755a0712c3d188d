"""Reading and writing clips: probe, frames, sound, and a writer that keeps what the source had beside them.

PyAV, decord, ffmpeg-python and torch are only imported when something is read or written. The names are imported
eagerly because `probe` is a function and the module that it lives in: whoever imports that module first must not
hide the function.
"""

from justdub.media.audio import read_audio, sound_span
from justdub.media.language import language_tag
from justdub.media.output import check_output
from justdub.media.probe import AudioStream, ClipInfo, SubtitleStream, VideoStream, probe
from justdub.media.read import FrameReader, read_frames, resize_frames
from justdub.media.write import ClipWriter, WriteReport, write_clip

__all__ = [
    "AudioStream",
    "ClipInfo",
    "ClipWriter",
    "FrameReader",
    "SubtitleStream",
    "VideoStream",
    "WriteReport",
    "check_output",
    "language_tag",
    "probe",
    "read_audio",
    "read_frames",
    "resize_frames",
    "sound_span",
    "write_clip",
]
