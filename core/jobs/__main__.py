"""The worker: `python -m core.jobs ID`."""

import sys

from core.jobs.worker import work

sys.exit(work(sys.argv[1]))
