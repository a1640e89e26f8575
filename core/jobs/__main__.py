"""The worker: `python -m core.jobs ID`."""

import sys

from core.jobs.job import work

sys.exit(work(sys.argv[1]))
