"""`justdub show`: clips as one picture, frames over spectrogram."""

from __future__ import annotations

import argparse

from justdub.errors import UsageError

HELP = "draw clips as a picture"
DESCRIPTION = "Draw clips one under the other, a row of frames over the spectrogram of each, as a PNG."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="video files, drawn from the top down")
    parser.add_argument("--output", "-o", required=True, metavar="FILE.png", help="the picture")
    parser.add_argument(
        "--columns", type=int, default=8, metavar="N", help="frames of each clip (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    from justdub.media import check_output, probe
    from justdub.media.picture import draw, glance
    from justdub.media.png import write_png

    if not 1 <= arguments.columns <= 64:
        raise UsageError(f"--columns {arguments.columns}", expected="1 to 64")
    output = check_output(arguments.output, inputs=arguments.clips, suffixes=(".png",))
    infos = [probe(clip) for clip in arguments.clips]
    picture = draw([glance(info, arguments.columns) for info in infos])
    write_png(output, picture)
    print(f"{arguments.output}: {picture.shape[1]}x{picture.shape[0]} pixels, {len(infos)} clips")
