"""`python -m tests.report`: see `make`, from which the processes that run the seeds import their work."""

from __future__ import annotations

import sys

from tests.report.make import main

if __name__ == "__main__":
    sys.exit(main())
