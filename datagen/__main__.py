"""`python -m datagen`: make training pairs; see `--help`.

python -m datagen run configs/datagen/mini.yaml            all stages; again: what is missing
python -m datagen inpaint configs/datagen/mini.yaml        one stage
python -m datagen from-clips DIR --lines lines.csv --out OUT
python -m datagen report configs/datagen/mini.yaml
python -m datagen masks configs/datagen/mini.yaml CLIP -o masks.png
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from justdub.errors import EXIT_DONE, EXIT_INTERRUPTED, BadInputError, JustDubError, UsageError

STAGES = {
    "script": "who says what in which two languages",
    "generate": "clips in which a speaker switches the language",
    "split": "where they switch",
    "mask": "which latents know of the lips",
    "inpaint": "each half again in the other half's language",
    "lips": "over-articulated lips for a share of the references",
    "filter": "measure every pair, keep the good ones",
    "dataset": "dataset.json, masks and a card, ready for train_lora.py",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datagen", description="Make training pairs for dubbing adapters.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    whole = verbs.add_parser("run", help="all stages, one after the other; what is there is not made again")
    _common(whole)
    whole.add_argument("--until", choices=STAGES, default="dataset", metavar="STAGE", help="the last stage (dataset)")
    for name, text in STAGES.items():
        _common(verbs.add_parser(name, help=text))
    clips = verbs.add_parser("from-clips", help="pairs from a folder of your own talking clips")
    clips.add_argument("folder", type=Path, metavar="DIR", help="clips; each one's line stands in --lines")
    clips.add_argument(
        "--lines", type=Path, metavar="CSV", help="columns file, language, text, to, translation[, speaker]"
    )
    clips.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder of the run")
    clips.add_argument("--until", choices=STAGES, default="dataset", metavar="STAGE", help="the last stage (dataset)")
    _common(clips, config=False)
    page = verbs.add_parser("report", help="one HTML page: yields, histograms, contact sheets, pairs to play")
    _common(page)
    page.add_argument("-o", "--output", type=Path, metavar="PAGE", help="default: OUT/report.html")
    probe = verbs.add_parser(
        "probe", help="what the latents that stay still tell of the old lips, box against fine mask"
    )
    _common(probe)
    probe.add_argument("--n", type=int, default=60, help="clips of the drawn world (default %(default)s)")
    masks = verbs.add_parser("masks", help="a picture of clips with their masks drawn over them")
    _common(masks)
    masks.add_argument("clips", nargs="+", metavar="CLIP", help="files; world:N is a clip of the drawn world")
    masks.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    masks.add_argument("--columns", type=int, default=4, metavar="N", help="frames of each (default %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)

    from justdub.cli.progress import Bars

    bars = Bars(quiet=options.quiet)
    try:
        return _do(options, bars)
    except JustDubError as error:
        bars.close()
        sys.stderr.write(f"datagen: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("datagen: interrupted; the same command goes on from here\n")
        return EXIT_INTERRUPTED
    finally:
        bars.close()


def _common(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    if config:
        parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="see configs/datagen")
    else:
        parser.add_argument("--config", type=Path, metavar="CONFIG.yaml", help="settings of the stages")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a setting")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: the cluster of RAY_ADDRESS")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of the local engine (1)")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")


def _do(options: argparse.Namespace, bars: Any) -> int:
    from datagen.job import DatagenJob
    from justdub import jobs

    if options.verb == "from-clips":
        tree = jobs.read(options.config) if options.config else {}
        lines = "" if options.lines is None else str(options.lines)
        tree |= {"out": str(options.out), "clips": 1, "footage": {"folder": str(options.folder), "lines": lines}}
        for text in options.set:
            jobs.change(tree, text)
        job = jobs.build(DatagenJob, tree)
    else:
        job = jobs.load(DatagenJob, options.config, options.set)

    from justdub.cli.libraries import prepare

    prepare()
    if options.verb in _PAGES:
        sys.stdout.write(_PAGES[options.verb](job, options, bars))
        return EXIT_DONE

    from datagen import run

    chosen = (options.verb,)
    if options.verb in ("run", "from-clips"):
        chosen = run.ORDER[: run.ORDER.index(options.until) + 1]
    made = run.run(job, only=chosen, engine=options.engine, workers=options.workers, report=bars)
    bars.close()
    sys.stdout.write(_summary(job, made))
    return EXIT_DONE


def _report(job: Any, options: argparse.Namespace, bars: Any) -> str:
    from datagen import report

    return f"{report.write(job, options.output, progress=bars)}\n"


def _probe(job: Any, options: argparse.Namespace, bars: Any) -> str:
    from datagen import probe

    if options.n < 10:
        raise UsageError(f"--n {options.n}", expected="10 or more clips")
    return json.dumps(probe.run(job, options.n, progress=bars), indent=1) + "\n"


def _masks(job: Any, options: argparse.Namespace, bars: Any) -> str:
    from datagen import overlay
    from datagen.film import put
    from datagen.tools import Tools

    if options.columns < 1:
        raise UsageError(f"--columns {options.columns}", expected="1 or more")
    picture = overlay.draw(Tools(job), options.clips, options.columns, bars)
    try:
        put(options.output, picture)
    except OSError as error:
        raise BadInputError(f"{options.output} cannot be written: {error.strerror}", remedy="another -o") from error
    return f"{options.output}\n"


_PAGES = {"report": _report, "probe": _probe, "masks": _masks}


def _summary(job: Any, made: Any) -> str:
    """The yield of every stage that has results, and the dataset."""
    from datagen import dataset
    from datagen.tools import Tools

    lines = []
    for stage, done, lost, reasons in dataset.yields(Tools(job)):
        if done or lost:
            why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
            lines.append(f"{stage:<9} {done:>6} done {lost:>6} rejected{'  ' + why if why else ''}\n")
    if made is not None:
        lines.append(f"{len(made.entries)} pairs in {made.folder / 'dataset.json'}, digest {made.digest[:16]}\n")
    return "".join(lines)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # a polite request to end cleans up like Ctrl-C
    sys.exit(main())
