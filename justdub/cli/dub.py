"""`justdub dub` and `infer.py`: dub one clip."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any

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
        "--backbone",
        "-b",
        default="mini",
        metavar="PATH",
        help="folder in diffusers layout, or official .safetensors file (default: %(default)s)",
    )
    model.add_argument("--text-encoder", metavar="DIR", help="folder of the Gemma that an official file needs")
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
    model.add_argument(
        "--profile",
        metavar="NAME",
        help="run the adapter as it was published: justdubit (LTX-2.0) or lipdub (LTX-2.3, distilled)",
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    model.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: %(default)s)")
    model.add_argument(
        "--reference", choices=("bidirectional", "isolated"), help="reference mode (default: the adapter's)"
    )

    _add_stage_arguments(parser)
    _add_machine_arguments(parser)

    how = parser.add_argument_group("sampling")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default: %(default)s)")
    how.add_argument(
        "--steps", type=int, metavar="N", help="denoising steps; like all of these, else as the adapter says"
    )
    how.add_argument("--schedule", choices=("ltx2", "distilled"), help="noise levels (default: ltx2, or the profile's)")
    how.add_argument("--guidance", type=float, metavar="X", help="prompt guidance of the picture, 1 = off")
    how.add_argument("--audio-guidance", type=float, metavar="X", help="prompt guidance of the sound, 1 = off")
    how.add_argument("--reference-guidance", type=float, metavar="X", help="identity guidance, 0 = off")
    how.add_argument(
        "--audio-reference-guidance", type=float, metavar="X", help="that of the sound (default: the same)"
    )
    how.add_argument("--joint-guidance", type=float, metavar="X", help="of prompt and source together, 1 = off")
    how.add_argument("--audio-joint-guidance", type=float, metavar="X", help="that of the sound (else the same)")
    how.add_argument("--modality-guidance", type=float, metavar="X", help="lip-sync guidance, 1 = off")
    how.add_argument("--stg", type=float, metavar="X", help="spatio-temporal guidance, 0 = off")
    how.add_argument("--rescale", type=float, metavar="X", help="guidance rescale, 0 to 1")
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
    out.add_argument(
        "--dry-run", action="store_true", help="check everything, print tokens, passes and memory, and stop there"
    )


def _add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    stages = parser.add_argument_group("two stages")
    stages.add_argument(
        "--two-stage",
        nargs="?",
        const="default",
        choices=("default", "justdubit", "lipdub"),
        metavar="{justdubit,lipdub}",
        help="work at half of --size, then refine at full size, as JUST-DUB-IT or LipDub does (default: the profile's)",
    )
    stages.add_argument("--upsampler", metavar="PATH", help="latent x2 upsampler: a file or a folder")
    stages.add_argument(
        "--refine-adapter",
        metavar="NAME[:STRENGTH]",
        help="distilled LoRA of stage 2 (a distilled backbone needs none)",
    )
    stages.add_argument(
        "--refine-keep-adapter",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave the dubbing adapter on in stage 2 (default: off for justdubit, on for lipdub)",
    )


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("memory and speed")
    machine.add_argument(
        "--memory",
        choices=("auto", "80", "48", "24", "16"),
        help="fit into what is free (auto) or into a GPU of so many GB (default: everything on the device)",
    )
    machine.add_argument(
        "--cache",
        choices=("device", "fp8", "host", "off"),
        help="keys and values of isolated references: on the device, there in eight bits, on the host, or not kept",
    )
    machine.add_argument("--no-cache", action="store_true", help="the same as --cache off")
    machine.add_argument(
        "--attention",
        default="native",
        choices=("native", "cudnn", "efficient", "math", "flash", "flash-torch", "flash3", "sage", "xformers", "flex"),
        help="attention kernel of the transformer, tried before it is used (default: %(default)s)",
    )
    machine.add_argument(
        "--compile", action="store_true", help="compile the transformer's blocks: pays when a run is long"
    )
    machine.add_argument(
        "--parallel", action="store_true", help="share one dub among the GPUs that torchrun started this on"
    )


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked cheaply, then load the model and dub."""
    from justdub.cli.libraries import prepare
    from justdub.dubbing.request import check_request

    request = check_request(arguments)
    for note in request.warnings:
        _say(note)

    prepare()
    from justdub.dubbing import preflight  # torch from here on

    rank, device = _join(arguments)
    files = _read_adapters(request) if not arguments.dry_run else []
    paths = [path for path, _ in request.adapters]
    if request.refiner is not None and request.refiner[1] is not None:
        paths.append(request.refiner[1][0])
    planned = preflight.Planner(
        arguments.backbone,
        request.clip,
        request.settings,
        adapters=tuple(paths),
        profile=request.profile,
        device=device,
        dtype=arguments.dtype,
        text_encoder=arguments.text_encoder,
    ).plan(arguments.memory)
    if arguments.dry_run:
        print(planned.text())
    if note := planned.check():
        _say(note)
    if not arguments.dry_run:
        _dub(arguments, request, planned, files, rank)


def _join(arguments: argparse.Namespace) -> tuple[int, str]:
    """This process's rank and device."""
    if not arguments.parallel:
        return 0, arguments.device
    from justdub.backbone import parallel

    rank, device = parallel.start(arguments.device)
    return rank, str(device)


def _read_adapters(request: Any) -> list[tuple[Any, Any]]:
    from justdub.lora.files import read

    files = [(read(path), strength) for path, strength in request.adapters]
    if request.profile is None:
        return files
    return [(request.profile.apply(adapter), strength) for adapter, strength in files]


def _dub(arguments: argparse.Namespace, request: Any, planned: Any, files: list[tuple[Any, Any]], rank: int) -> None:
    """Load, dub, and let the first process write and report."""
    pipe = _load(arguments, request, planned, files)
    settings = request.settings
    if planned.use is not None:
        settings = replace(settings, cache_place=planned.use.cache)
    bars = Bars(quiet=arguments.quiet or rank > 0)
    try:
        dub = pipe(
            request.clip,
            prompt=request.prompt,
            output=request.output if rank == 0 else None,
            settings=settings,
            progress=bars,
        )
    finally:
        bars.close()
    if rank == 0:
        _report(dub.manifest, json=arguments.json)


def _load(arguments: argparse.Namespace, request: Any, planned: Any, files: list[tuple[Any, Any]]) -> Any:
    """The pipeline with its adapters, kernels and shares, and a line for everything that a user should know."""
    from justdub.backbone import kernels, parallel
    from justdub.dubbing.pipeline import DubPipeline

    pipe = DubPipeline.from_pretrained(
        arguments.backbone,
        device=str(planned.device),
        dtype=arguments.dtype,
        text_encoder=arguments.text_encoder,
        use=planned.use,
    )
    if pipe.backbone.card.notice:
        _say(pipe.backbone.card.notice)
    if planned.use is not None:
        _say(f"memory: {planned.use}")
    for adapter, strength in files:
        pipe.load_adapter(adapter, strength, any_base=arguments.any_base)
    if request.refiner is not None:
        upsampler, refining = request.refiner
        path, strength = refining or (None, 1.0)
        pipe.load_refiner(upsampler, path, strength, any_base=arguments.any_base)
    if not pipe.adapters and not pipe.rack.merged:
        _say("no --adapter: the bare backbone, which was not taught to dub")
    for name, loaded in pipe.adapters.items():
        if loaded.file.rules is None:
            _say(f"adapter {name} does not say how it was trained: run by the rules of JUST-DUB-IT")
    module = pipe.backbone.transformer.module
    if arguments.attention != "native" and (note := kernels.use(module, arguments.attention, planned.device)):
        _say(note)
    if arguments.parallel:
        registers = pipe.backbone.text.registers
        parallel.enable(pipe.backbone.transformer, split_text=registers)
    if arguments.compile:
        streamed = planned.use is not None and planned.use.stream
        kernels.compile_blocks(module, whole=not streamed)
    return pipe


def _report(manifest: Any, *, json: bool) -> None:
    for note in manifest.adjustments:
        _say(note)
    if json:
        print(manifest.dumps())
    else:
        out = manifest.content["output"]
        print(
            f"{out['path']}: {out['frames']} frames, {out['seconds']:.3f} s, sound and picture differ by "
            f"{abs(out['av_difference_s']) * 1000:.0f} ms; took {manifest.as_dict()['seconds']['total']:.1f} s"
        )


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes, the first one speaks
        print(f"justdub: {line}", file=sys.stderr)
