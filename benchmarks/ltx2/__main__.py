"""python -m benchmarks.ltx2"""

import sys

from benchmarks.ltx2.command import main

sys.exit(main())
