"""`justdub eval RUN.yaml` and `justdub eval --source DIR --dubbed DIR`: measure dubs against their sources."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from justdub.cli.progress import Bars
from justdub.errors import UsageError

HELP = "measure dubs against their sources as a YAML file says (RUN.yaml alone does)"
DESCRIPTION = "Judge every dub beside its source and write results.json, clips.csv, summary.csv and page.html."
_FOLDERS = {
    "source": "the source clips",
    "dubbed": "the dubs, each under the name of its source",
    "truth": "true recordings of the lines in the dub's language (MCD, EMO-SIM)",
    "voices": "timbre prompts (SPK-SIM)",
    "stems": "clean speech of each dub (SI-SDR)",
    "masks": "pictures or clips, white where the face is",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, what in _FOLDERS.items():
        parser.add_argument(f"--{name}", metavar="DIR", help=what)
    parser.add_argument("--output", "-o", metavar="DIR", help="where the results go (default: evaluation)")
    parser.add_argument("--name", help="of the system, in tables (default: dubbed)")
    parser.add_argument("--texts", metavar="FILE", help=".csv or .tsv: name, text, language, difficulty, emotion")
    parser.add_argument("--language", metavar="CODE", help="of the dubs, where the texts do not say")
    parser.add_argument("--features", nargs=2, metavar=("DIR", "DIR"), help=".npy features of sources and of dubs")
    parser.add_argument("--metrics", metavar="KEY,KEY", help="only these (default: all)")
    parser.add_argument("--weights", action="append", metavar="NAME=PATH", help="weights of yours; may be repeated")
    parser.add_argument("--clips", type=int, metavar="N", help="at most so many, drawn by --seed")
    parser.add_argument("--seed", type=int, metavar="N", help="of the drawing and the intervals (default: 0)")
    parser.add_argument("--cache", metavar="DIR", help="what was measured before (default: OUTPUT/cache)")
    parser.add_argument("--device", help="of torch (default: cpu)")
    parser.add_argument("--no-controls", action="store_true", help="the system alone, without rows to compare it with")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bars")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS  # what stands before the file's name holds too
    parser.add_argument("job", metavar="RUN.yaml", help="configs/eval holds examples")
    parser.add_argument("--set", dest="changes", action="append", metavar="A.B=VALUE", help="change one setting")
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    given = _given(arguments)
    job = getattr(arguments, "job", None)
    if job is None and not (arguments.source and arguments.dubbed):
        raise UsageError("nothing to measure", expected="RUN.yaml, or --source DIR and --dubbed DIR",
                         remedy="justdub eval --help")  # fmt: skip
    from justdub import jobs
    from justdub.cli.libraries import prepare
    from justdub.evaluation.settings import EvalSettings

    if job is None:
        settings = jobs.build(EvalSettings, {"output": "evaluation", **given})
    else:
        weights = given.pop("weights", {})
        changes = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        changes += [f"weights.{name}={json.dumps(path)}" for name, path in weights.items()]
        settings = jobs.load(EvalSettings, Path(job), [*getattr(arguments, "changes", []), *changes])
    prepare()
    from justdub.evaluation import results, suite, table
    from justdub.evaluation.report import page

    bars = Bars(quiet=arguments.quiet)
    try:
        found = suite.run(settings, bars)
        written = results.write(found, Path(settings.output))  # before the page: a page that fails loses no numbers
        written.append(page.write(found, settings, bars))
    finally:
        bars.close()
    print(table.text(found), end="")
    print(*written, sep="\n")


def _given(arguments: argparse.Namespace) -> dict:
    """What was said on the command line, as keys of the settings."""
    names = (*_FOLDERS, "output", "name", "texts", "language", "clips", "seed", "cache", "device")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.features:
        given["features"] = arguments.features
    if arguments.metrics:
        given["metrics"] = [key for key in arguments.metrics.replace(",", " ").split() if key]
    if arguments.no_controls:
        given["controls"] = []
    if arguments.weights:
        pairs = [item.partition("=") for item in arguments.weights]
        if wrong := next(
            (item for item, (_, sign, path) in zip(arguments.weights, pairs, strict=True) if not path), ""
        ):
            raise UsageError(f"--weights {wrong}", expected="--weights NAME=PATH")
        given["weights"] = {name: path for name, _, path in pairs}
    return given
