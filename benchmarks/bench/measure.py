"""Measure a child process: CPU-seconds, wall-clock, peak memory of its whole tree, and who else used the machine."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SAMPLE_SECONDS = 0.05
TIMEOUT_SECONDS = 3600.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A command under test failed; its last lines of output are in the message."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one run of a command cost.

    `cpu_s` is user and system time of the process and of all descendants that were waited for. Memory is in MiB and
    summed over the tree: `rss_anon_mib` the largest sum of RssAnon seen at one instant (what the processes allocated;
    mapped files left out), `vm_hwm_mib` the largest sum of VmHWM (each process's highest resident set, mapped files
    included, so pages that processes share count in each). `other_cores` is how many cores were busy with something
    else meanwhile: above some 0.1 of them, wall-clock figures mean little and CPU-seconds are inflated.
    """

    cpu_s: float
    wall_s: float
    rss_anon_mib: float
    vm_hwm_mib: float
    other_cores: float


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A measured run and what it printed on stdout."""

    measured: Measurement
    stdout: str


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = TIMEOUT_SECONDS,
) -> Run:
    """Run a command to its end and measure it. `env` is added to this process's environment.

    Raises:
        BenchmarkError: the command cannot be started, exits with another code than 0, or takes over `timeout_s`.
    """
    arguments = [str(argument) for argument in command]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        busy, start = _busy_seconds(), time.perf_counter()
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"{arguments[0]}: {error.strerror or error}") from error
        sampler = _Sampler(process.pid)
        alarm = threading.Timer(timeout_s, _kill_group, (process.pid,))
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start
        except BaseException:
            _kill_group(process.pid)
            process.wait()
            raise
        finally:
            alarm.cancel()
            sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        # ru_maxrss is of no use here: across exec it keeps the high-water mark of the process that forked.
        cpu_s = usage.ru_utime + usage.ru_stime
        measured = Measurement(
            cpu_s=cpu_s,
            wall_s=wall_s,
            rss_anon_mib=sampler.rss_anon_kib / 1024,
            vm_hwm_mib=sampler.vm_hwm_kib / 1024,
            other_cores=max(0.0, _busy_seconds() - busy - cpu_s) / wall_s,
        )
        if process.returncode != 0:
            raise BenchmarkError(f"{' '.join(arguments[:4])} ...: exit {process.returncode}\n{_tail(stderr.fileno())}")
        stdout.seek(0)
        return Run(measured, stdout.read().decode(errors="replace"))


def best_of(times: int, measure: Callable[[], Run], *, key: Callable[[Measurement], float]) -> Run:
    """Run `measure` several times and return the run with the least `key`: whatever disturbs a run only adds to it."""
    return min((measure() for _ in range(times)), key=lambda one: key(one.measured))


def cpu(measured: Measurement) -> float:
    """The key of `best_of` for figures in CPU-seconds."""
    return measured.cpu_s


def wall(measured: Measurement) -> float:
    """The key of `best_of` for figures in wall-clock seconds."""
    return measured.wall_s


def tree(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


class _Sampler:
    """A thread that keeps the largest sums of memory over a process tree, until `stop`."""

    def __init__(self, pid: int) -> None:
        self.rss_anon_kib = 0
        self.vm_hwm_kib = 0
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            statuses = [_memory(pid) for pid in tree(self._pid)]
            self.rss_anon_kib = max(self.rss_anon_kib, sum(status.get("RssAnon", 0) for status in statuses))
            self.vm_hwm_kib = max(self.vm_hwm_kib, sum(status.get("VmHWM", 0) for status in statuses))
            if self._stopped.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def _memory(pid: int) -> dict[str, int]:
    """RssAnon and VmHWM of a process in KiB; empty once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if line.startswith(("RssAnon:", "VmHWM:")))
    return {name: int(value.split()[0]) for name, value in fields}


def _busy_seconds() -> float:
    """CPU-seconds that the whole machine has spent on anything but idling, stolen time included."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = dict(zip(names, map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]), strict=False))
    return sum(count for name, count in ticks.items() if name not in ("idle", "iowait")) / _TICKS


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tail(descriptor: int, size: int = 2000) -> str:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, size, max(0, end - size)).decode(errors="replace").strip()
