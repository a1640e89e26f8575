"""Threads of a job: what affinity and quotas allow, whatever the load is."""

import os
import subprocess
import sys

import pytest

from core.jobs.processors import usable_processors


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A file system with these files, on a machine whose process may run on 8 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    def made(**files: str):
        for path, text in files.items():
            place = tmp_path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path

    return lambda files: made(**files)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "cut o"}, 8),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "50000\n",
            },
            5,
        ),
        (
            {  # a container's own group is the outermost that it sees
                "proc/self/cgroup": "1:cpu:/docker/0123\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_a_quota_bounds_the_processors(machine, files, expected):
    assert usable_processors(machine(files)) == expected


def test_affinity_bounds_them_too(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    assert usable_processors(machine({"proc/self/cgroup": "0::/\n"})) == 1


def test_a_worker_takes_all_of_them_however_busy_the_machine_is(tmp_path, cold_start):
    script = (
        "import os; os.getloadavg = lambda: (99.0, 99.0, 99.0)\n"
        "from core.jobs.processors import usable_processors\n"
        "from core.jobs.worker import work\n"
        "work('0' * 16)\n"
        "print(os.environ['OMP_NUM_THREADS'], usable_processors())"
    )
    (tmp_path / "jobs" / ("0" * 16)).mkdir(parents=True)
    for asked in (None, "7"):  # who names a number is obeyed
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        environment |= {"BLOCKSCAPE_HOME": str(tmp_path), **({"OMP_NUM_THREADS": asked} if asked else {})}
        printed = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        ).stdout
        taken, usable = printed.split()
        assert taken == (asked or usable)
