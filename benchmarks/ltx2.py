"""The benchmark at LTX-2's real size, as a script: it is the package of the same name (`python -m benchmarks.ltx2`)."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder, whose files are no top-level modules
    from benchmarks.ltx2.command import main

    sys.exit(main())
