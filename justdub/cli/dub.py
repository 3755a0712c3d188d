"""`justdub dub` and `infer.py`: dub one clip."""

from __future__ import annotations

import argparse
import sys

from justdub.cli.progress import Bars

HELP = "dub a clip"
DESCRIPTION = (
    "Dub a clip: translated speech and matching lips in one denoising pass. "
    "Say what is to be said with --prompt 'The woman is speaking French, saying: \"...\"', "
    "or with --text and --language."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options in the order a user needs them."""
    parser.add_argument("--input", "-i", required=True, metavar="CLIP", help="video to dub, at most 20 s")
    parser.add_argument("--output", "-o", required=True, metavar="OUT", help="dubbed video (.mp4, .mov, .mkv, .webm)")

    what = parser.add_argument_group("what is said")
    what.add_argument("--prompt", "-p", metavar="PROMPT", help="the whole prompt, taken as it is")
    what.add_argument("--text", metavar="TEXT", help="the translated dialogue; the standard prompt is built from it")
    what.add_argument("--language", "-l", metavar="LANG", help="language of --text: fr, fra or French")
    what.add_argument("--speaker", default="The person", metavar="WHO", help="who speaks (default: %(default)s)")
    what.add_argument(
        "--negative-prompt", metavar="PROMPT", help="prompt of the unguided pass (default: the backbone's)"
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone", "-b", default="mini", metavar="PATH", help="checkpoint folder (default: %(default)s)"
    )
    model.add_argument(
        "--adapter",
        "-a",
        action="append",
        default=[],
        metavar="NAME[:STRENGTH]",
        help="IC-LoRA adapter, a name of the shelf or a path; repeatable; fr:0.8 or fr:video=1,audio=0.5,cross=0.7",
    )
    model.add_argument(
        "--any-base", action="store_true", help="take adapters that were trained on other weights of the same kind"
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    model.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: %(default)s)")
    model.add_argument(
        "--reference", choices=("bidirectional", "isolated"), help="reference mode (default: the adapter's)"
    )
    model.add_argument("--no-cache", action="store_true", help="do not cache isolated references")

    how = parser.add_argument_group("sampling")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default: %(default)s)")
    how.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the backbone's)")
    how.add_argument(
        "--schedule", choices=("ltx2", "distilled"), default="ltx2", help="noise levels (default: %(default)s)"
    )
    how.add_argument("--guidance", type=float, metavar="X", help="prompt guidance of the picture, 1 = off")
    how.add_argument("--audio-guidance", type=float, metavar="X", help="prompt guidance of the sound, 1 = off")
    how.add_argument("--reference-guidance", type=float, default=0.0, metavar="X", help="identity guidance, 0 = off")
    how.add_argument("--modality-guidance", type=float, default=1.0, metavar="X", help="lip-sync guidance, 1 = off")
    how.add_argument("--stg", type=float, default=0.0, metavar="X", help="spatio-temporal guidance, 0 = off")
    how.add_argument("--rescale", type=float, default=0.0, metavar="X", help="guidance rescale, 0 to 1")
    how.add_argument("--size", metavar="WxH", help="working size (default: the backbone's area in the clip's shape)")
    how.add_argument(
        "--keep-first-frame",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give the first frame as it is (default: the adapter's rule)",
    )

    out = parser.add_argument_group("reporting")
    out.add_argument("--json", action="store_true", help="the last line of standard output is the manifest")
    out.add_argument("--quiet", "-q", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked cheaply, then load the model and dub."""
    from justdub.cli.libraries import prepare
    from justdub.dubbing.request import check_request

    bars = Bars(quiet=arguments.quiet)
    request = check_request(arguments)
    for note in request.warnings:
        _say(note)

    prepare()
    from justdub.dubbing.pipeline import DubPipeline  # torch from here on
    from justdub.lora.files import read

    adapters = [(read(path), strength) for path, strength in request.adapters]
    pipe = DubPipeline.from_pretrained(arguments.backbone, device=arguments.device, dtype=arguments.dtype)
    if pipe.backbone.card.notice:
        _say(pipe.backbone.card.notice)
    for adapter, strength in adapters:
        pipe.load_adapter(adapter, strength, any_base=arguments.any_base)
    if not pipe.adapters and not pipe.rack.merged:
        _say("no --adapter: the bare backbone, which was not taught to dub")
    for name, loaded in pipe.adapters.items():
        if loaded.file.rules is None:
            _say(f"adapter {name} does not say how it was trained: run by the rules of JUST-DUB-IT")
    try:
        dub = pipe(
            request.clip,
            prompt=request.prompt,
            output=request.output,
            settings=request.settings,
            progress=bars,
        )
    finally:
        bars.close()
    manifest = dub.manifest
    for note in manifest.adjustments:
        _say(note)
    if arguments.json:
        print(manifest.dumps())
    else:
        out = manifest.content["output"]
        print(
            f"{out['path']}: {out['frames']} frames, {out['seconds']:.3f} s, sound and picture differ by "
            f"{abs(out['av_difference_s']) * 1000:.0f} ms; took {manifest.as_dict()['seconds']['total']:.1f} s"
        )


def _say(line: str) -> None:
    print(f"justdub: {line}", file=sys.stderr)
