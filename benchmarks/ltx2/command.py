"""LTX-2 at its real size with random weights: a step, an update, the codecs, an adapter swap, the device's ceilings.

    python benchmarks/ltx2.py --scale full --out FILE.json      measure; the table also goes to the standard output
    python benchmarks/ltx2.py --table FILE.json [FILE.json]     print the table of finished runs, as one

No checkpoint and no network. Whatever fails (memory, an unsupported kernel) is a line of the table, and the rest goes
on; FILE is written after every row, so that a run that is stopped keeps what it has.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from benchmarks.ltx2 import asks, report
from benchmarks.ltx2.report import Report
from benchmarks.ltx2.scale import SCALES, Resolution
from justdub.errors import JustDubError, UsageError

PARTS = ("ceiling", "step", "train", "codec", "swap")  # in this order: utilisation needs the ceilings
WAYS = ("masked", "sliced", "isolated", "cached", "prefill", "stock")
PACKAGES = ("torch", "triton", "diffusers", "peft", "transformers")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code; a part that failed is no failure of the run."""
    try:
        return _run(_parser().parse_args(arguments))
    except JustDubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="print finished runs and end")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the rows are kept")
    parser.add_argument("--scale", choices=SCALES, default="tiny", help="48, 24 or 2 blocks (tiny: narrow ones)")
    parser.add_argument("--resolution", metavar="WxHxF", help="of a step and the codecs (960x544x121; tiny: less)")
    parser.add_argument("--train-resolution", metavar="WxHxF", help="of an update (640x352x121; tiny: less)")
    parser.add_argument("--parts", type=_several(PARTS), default=PARTS, metavar="LIST", help=",".join(PARTS))
    parser.add_argument("--dtypes", type=_several(("bf16", "fp8")), default=("bf16", "fp8"), metavar="LIST")
    parser.add_argument("--modes", type=_several(("eager", "compiled")), default=("eager", "compiled"), metavar="LIST")
    parser.add_argument(
        "--ways", type=_several(WAYS), default=WAYS, metavar="LIST", help=f"of a step: {','.join(WAYS)}"
    )
    parser.add_argument("--rank", type=int, help="of the adapters (128; tiny: 4)")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds, after two that warm up")
    parser.add_argument("--budget", type=float, default=3600, metavar="SECONDS", help="nothing new is begun after it")
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--attention", default="native", help="diffusers' attention backend of all ways")
    parser.add_argument("--compiler", default="inductor", help="backend of torch.compile")
    parser.add_argument("--commit", help="of the code, where git cannot say it")
    return parser


def _several(allowed: tuple[str, ...]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        chosen = text.split(",")
        if unknown := [one for one in chosen if one not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
        return tuple(one for one in allowed if one in chosen)

    return parse


def _run(options: argparse.Namespace) -> int:
    if options.table:
        _print(report.join([Report.read(path) for path in options.table]))
        return 0
    if options.repeats < 1:
        raise UsageError(f"--repeats {options.repeats}", expected="1 or more")
    begun = time.monotonic()
    scale = SCALES[options.scale]
    resolution = Resolution.parse(options.resolution or scale.resolution)
    train_resolution = Resolution.parse(options.train_resolution or scale.train_resolution)

    import torch
    from diffusers.models.attention_dispatch import attention_backend

    from benchmarks.ltx2.run import Run

    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    rank = options.rank or scale.rank
    deadline = begun + options.budget
    run = Run(
        scale, resolution, train_resolution, rank, options.dtypes, options.modes, options.ways, options.repeats, device,
        deadline, options.compiler,
    )  # fmt: skip
    found = Report(_about(options, run))
    with attention_backend(options.attention):
        for part in options.parts:
            for row in import_module(f"benchmarks.ltx2.{part}").rows(run):
                found.rows.append(row)
                if options.out:
                    found.write(options.out)
    _print(found)
    return 0


def _print(found: Report) -> None:
    print(report.table(found))
    print()
    print(asks.table(found))


def _about(options: argparse.Namespace, run: Any) -> dict[str, str]:
    import torch

    if run.device.type == "cuda":
        card = torch.cuda.get_device_properties(run.device)
        device = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        device = f"CPU {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    versions = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": device,
        "versions": ", ".join(versions),
        "commit": options.commit or _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "scale": f"{run.scale.name}, {run.scale.transformer['num_layers']} blocks",
        "resolution": f"{run.resolution}, training {run.train_resolution}, text {run.scale.text_tokens} tokens",
        "settings": f"rank {run.rank}, {run.repeats} rounds, attention {options.attention}, compiler {run.compiler}",
    }


def _commit() -> str:
    """Of this checkout, with a plus sign when the code that is measured has changed since."""
    root = Path(__file__).resolve().parent.parent.parent
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = [*git, "status", "--porcelain", "--", "justdub", "benchmarks"]
        dirty = subprocess.run(changed, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown (--commit)"
    return head.strip() + ("+" if dirty.strip() else "")
