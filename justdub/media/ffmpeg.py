"""Running ffmpeg: graphs become argument lists, bytes go in by a pipe, its last words become our error."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections import deque
from functools import lru_cache

from justdub.errors import BadInputError, MissingError

_STDERR_LINES = 40
_AFTERMATH = ("Terminating thread", "Task finished", "Error while", "Conversion failed", "Nothing was written")


@lru_cache(maxsize=1)
def ffmpeg_exe() -> str:
    """Path of the ffmpeg binary that imageio-ffmpeg carries (or IMAGEIO_FFMPEG_EXE names)."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingError(
            "no ffmpeg program was found", remedy="pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to one"
        ) from error


def argument_list(output, *, last_input: list[str] | None = None, extra: list[str] | None = None) -> list[str]:
    """The argv of an ffmpeg-python output node.

    ffmpeg-python can neither repeat an option, nor place global ones, nor name an input of which no stream is mapped,
    so these are put in here.

    Args:
        last_input: arguments of one more input, numbered after those of the graph: [..., "-i", URL].
        extra: output options, put before the output's name.
    """
    argv = output.compile(cmd=ffmpeg_exe())
    after_inputs = max(place for place, word in enumerate(argv) if word == "-i") + 2
    argv = [*argv[:after_inputs], *(last_input or []), *argv[after_inputs:]]
    return [argv[0], "-hide_banner", "-nostdin", "-v", "error", "-y", *argv[1:-1], *(extra or []), argv[-1]]


class FfmpegProcess:
    """One ffmpeg that is fed through its standard input; its standard error is drained so that it never blocks.

    It runs in its own session: a Ctrl-C reaches us alone, and we end it.
    """

    def __init__(self, argv: list[str]) -> None:
        self._lines: deque[str] = deque(maxlen=_STDERR_LINES)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()

    def _read_stderr(self) -> None:
        for line in self._process.stderr:
            self._lines.append(line.decode("utf-8", "replace").rstrip())

    def write(self, data) -> bool:
        """Feed a bytes-like object; False if ffmpeg has closed its end (ask `finish` why)."""
        try:
            self._process.stdin.write(data)
        except OSError:  # broken pipe
            return False
        return True

    def finish(self) -> None:
        """Close the pipe and wait.

        Raises:
            FfmpegError: ffmpeg failed; its last lines are the message.
        """
        with contextlib.suppress(OSError):  # a broken pipe: the exit code tells
            self._process.stdin.close()
        code = self._process.wait()
        self._drain.join(timeout=5)
        self._process.stderr.close()
        if code:
            raise FfmpegError(code, list(self._lines))

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._drain.join(timeout=5)
        for stream in (self._process.stdin, self._process.stderr):
            with contextlib.suppress(OSError):  # unflushed bytes for a process that is gone
                stream.close()


class FfmpegError(BadInputError):
    """ffmpeg ended with an error: `code` is its exit code (negative: a signal), `text` the last lines it wrote."""

    def __init__(self, code: int, lines: list[str]) -> None:
        self.code = code
        self.text = "\n".join(lines)
        said = " | ".join(_causes(lines)) or (f"killed by signal {-code}" if code < 0 else "no message")
        super().__init__(f"ffmpeg failed with code {code}: {said}", remedy="see its message; another output format")


def _causes(lines: list[str]) -> list[str]:
    """The first lines that name a cause: what follows only says which thread gave up."""
    bare = [re.sub(r"^(\[[^\]]*\]\s*)+", "", line) for line in lines]
    return [line for line in bare if line and not line.startswith(_AFTERMATH)][:2] or bare[-2:]
