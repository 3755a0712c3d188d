#!/usr/bin/env python3
"""Dub a clip: `python infer.py --input IN --prompt P --output OUT`. The same as `justdub dub`."""

import sys

from justdub.cli.main import run_process

if __name__ == "__main__":
    sys.exit(run_process(prog="infer.py", only="dub"))
