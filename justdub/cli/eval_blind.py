"""`justdub eval blind DIR DIR...`: a local page on which people choose between systems, and the sum of their votes."""

from __future__ import annotations

import argparse
from pathlib import Path

from justdub.errors import UsageError

HELP = "build a blind A/B test of systems for people, or sum its votes up"
DESCRIPTION = (
    "Folders of dubs under the same names become a page that asks for lip sync, prompt adherence and quality; with "
    "--key and files of answers, the votes are summed up."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="DIR", help="folders of dubs; with --key: files of answers")
    parser.add_argument("--output", "-o", metavar="DIR", default="blind", help="of the test (default: %(default)s)")
    parser.add_argument("--key", metavar="FILE", help="key.json of a test: sum up the answers")
    parser.add_argument("--texts", metavar="FILE", help=".csv or .tsv: name, text")
    parser.add_argument("--questions", type=int, default=30, metavar="N", help="for each pair (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of sides and order (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    from justdub.evaluation import blind
    from justdub.evaluation.pairing import read_texts

    paths = [Path(path) for path in arguments.paths]
    if arguments.key:
        print(blind.text(blind.tally(Path(arguments.key), paths)), end="")
        return
    if arguments.questions < 1:
        raise UsageError(f"--questions {arguments.questions}", expected="1 or more")
    rows = read_texts(Path(arguments.texts)) if arguments.texts else {}
    texts = {name: row.get("text", "") for name, row in rows.items()}
    page, key = blind.build(
        paths, Path(arguments.output), texts=texts, questions=arguments.questions, seed=arguments.seed
    )
    print(f"{page}: give this page and its folder clips to people", f"{key}: keep this to yourself", sep="\n")
