"""`justdub eval compare A.json B.json`: two systems on the same clips."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compare the results of two systems on the same clips"
DESCRIPTION = "Paired differences of two results.json with intervals, sign-flip tests and Holm's correction."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A.json", help="results.json of the first system")
    parser.add_argument("second", metavar="B.json", help="of the second")


def run(arguments: argparse.Namespace) -> None:
    from justdub.evaluation import compare

    print(compare.text(*compare.compare(Path(arguments.first), Path(arguments.second))), end="")
