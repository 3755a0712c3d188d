"""`justdub eval dubs`: measure dubs of held-out clips of the drawn world, without and with adapters."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from justdub.cli.progress import Bars
from justdub.errors import BadInputError, MissingError, UsageError

LANGUAGE = "{to}"
HELP = "measure dubs of held-out clips of the drawn world, without and with adapters"
DESCRIPTION = (
    "Dub held-out clips of the drawn world into the other language of their pair, judge the dubs beside what a perfect "
    "one would be, and print one table: new and old words, language, error outside the mouth, face, voice, lips "
    "against sound, sync."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=100, metavar="N", help="clips (default: %(default)s)")
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="number of the first clip: settings are chosen on other clips"
    )
    parser.add_argument("--to", metavar="LANGUAGES", help="of the dubs, such as fr,de (default: all five)")
    parser.add_argument(
        "--backbone", "-b", default="mini", metavar="NAME", help="mini, or a checkpoint folder (default: mini)"
    )
    parser.add_argument(
        "--adapter",
        "-a",
        action="append",
        default=[],
        metavar="NAME[:STRENGTH]",
        help="also with this adapter, a name of the shelf or a path; repeatable, a row each; {to} in it stands for the "
        "target's language code, so that '{to}' is every language's own adapter",
    )
    parser.add_argument("--no-controls", action="store_true", help="only the rows of the adapters, and the truth")
    parser.add_argument("--no-adapter", action="store_true", help="the base alone; so it is without --adapter, too")
    parser.add_argument("--any-base", action="store_true", help="take adapters that were trained on other weights")
    parser.add_argument(
        "--reference", choices=("bidirectional", "isolated"), help="reference mode of all rows (default: the adapter's)"
    )
    sampling = parser.add_argument_group("sampling", "By default as the adapter says, or else the checkpoint.")
    sampling.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    sampling.add_argument("--guidance", type=float, metavar="S", help="of the picture, 1 = off")
    sampling.add_argument("--audio-guidance", type=float, metavar="S", help="of the sound, 1 = off")
    sampling.add_argument("--reference-guidance", type=float, metavar="S", help="identity guidance, 0 = off")
    sampling.add_argument("--audio-reference-guidance", type=float, metavar="S", help="that of the sound")
    sampling.add_argument("--joint-guidance", type=float, metavar="S", help="of prompt and source together, 1 = off")
    sampling.add_argument("--audio-joint-guidance", type=float, metavar="S", help="that of the sound")
    sampling.add_argument("--modality-guidance", type=float, metavar="S", help="lip-sync guidance, 1 = off")
    sampling.add_argument("--rescale", type=float, metavar="S", help="guidance rescale, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first dub (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    parser.add_argument("--output", "-o", metavar="DIR", help="also write table.md, scores.json and sheet.png there")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked cheaply, then load the model and dub."""
    from justdub.cli.libraries import prepare
    from justdub.dubbing.settings import DubSettings
    from justdub.lora.reference import parse_reference
    from justdub.lora.shelf import find

    if arguments.n < 2:
        raise UsageError(f"--n {arguments.n}", expected="2 or more: the row of chance swaps the clips' sound")
    if arguments.no_adapter and arguments.adapter:
        raise UsageError("both --no-adapter and --adapter", expected="one of them; the base is measured in any case")
    if find_spec("espeakng_loader") is None:
        raise MissingError("the package espeakng-loader is not installed", remedy="pip install 'justdub[world]'")
    settings = DubSettings(
        seed=arguments.seed,
        steps=arguments.steps,
        guidance=arguments.guidance,
        audio_guidance=arguments.audio_guidance,
        reference_guidance=arguments.reference_guidance,
        audio_reference_guidance=arguments.audio_reference_guidance,
        joint_guidance=arguments.joint_guidance,
        audio_joint_guidance=arguments.audio_joint_guidance,
        modality_guidance=arguments.modality_guidance,
        rescale=arguments.rescale,
        reference=arguments.reference,
    )
    if arguments.output:
        _make_folder(Path(arguments.output))
    if arguments.no_controls and not arguments.adapter:
        raise UsageError("--no-controls without --adapter", expected="an adapter to measure")
    references = [parse_reference(text) for text in arguments.adapter]
    prepare()
    from datagen.world.pairs import parse_languages
    from datagen.world.speech import LANGUAGES

    languages = parse_languages(arguments.to)
    paths = [
        {code: find(reference.name.replace(LANGUAGE, code)) for code in languages or LANGUAGES}
        if LANGUAGE in reference.name
        else find(reference.name)
        for reference in references
    ]
    from justdub.dubbing.pipeline import DubPipeline
    from justdub.evaluation.world import dubs, heldout, judges
    from justdub.lora.files import read

    tasks = heldout.Tasks(arguments.n, arguments.first, languages)
    rows = dubs.row_names([(reference.name, reference.strength) for reference in references])
    adapters = [
        dubs.Adapter(
            row,
            {code: read(one) for code, one in path.items()} if isinstance(path, dict) else read(path),
            reference.strength,
        )
        for row, path, reference in zip(rows, paths, references, strict=True)
    ]
    bars = Bars(quiet=arguments.quiet)
    pipe = DubPipeline.from_pretrained(arguments.backbone, device=arguments.device, dtype=arguments.dtype)
    try:
        outcome = dubs.run(
            pipe,
            judges.load(),
            tasks,
            adapters=adapters,
            controls=not arguments.no_controls,
            any_base=arguments.any_base,
            settings=settings,
            progress=bars,
        )
    finally:
        bars.close()
    print(outcome.markdown(), end="")
    if arguments.output:
        print(*dubs.write(outcome, Path(arguments.output)), sep="\n")


def _make_folder(folder: Path) -> None:
    """Before an hour of dubbing, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error.strerror}", remedy="another folder with -o") from error
