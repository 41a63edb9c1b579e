"""Full snapshot, incremental snapshot and restore: ours, restic's and a plain copy's, interleaved in one run.

    python -m tests.benchmarks.bench_snapshots [--small] [--rounds N] [--restic PATH …] [--where FOLDER]

Same data, same S3 server on this machine (`localbucket`, in a process of its own), encryption and verification on,
file pages warmed before each timed run. The data: bf16 weights (Gaussian, as trained weights are) in two safetensors
files, and small files of text and noise; for the incremental run 1 % of the weights, in two runs a file, and 1 %
of the small files change. Prints a table of medians, writes build/benchmarks/snapshots.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.figures import Figure, save
from tests.benchmarks.figures import show as show_figures
from tests.benchmarks.snapshot_contestants import BUCKET, Contestant, Engine, PlainCopy, Restic, Run
from tests.engine_rig import free_port, weights

REPORT = Path("build/benchmarks/snapshots.json")
MIB = 1 << 20
RUNS = 2
WITHOUT = "without large MD5"
"""Ours with `--snapshot-md5 small`: what the MD5 of files over 16 MiB costs, which neither rival has."""
PHASES = ("full", "incremental", "restore")


@dataclass
class Times:
    """One contestant's runs, and what it stored."""

    full: list[Run] = field(default_factory=list)
    incremental: list[Run] = field(default_factory=list)
    restore: list[Run] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)

    def median(self, phase: str) -> float:
        return float(statistics.median(run.seconds for run in getattr(self, phase)))

    def cpu(self, phase: str) -> float:
        return float(statistics.median(run.cpu_seconds for run in getattr(self, phase)))

    def peak_mib(self) -> float:
        return max(run.peak_mib for run in [*self.full, *self.incremental, *self.restore])


def make_data(folder: Path, weight_bytes: int, files: int) -> None:
    """Two weights files, and small files: two thirds text, a third noise, 0 to 45 KB."""
    folder.mkdir(parents=True)
    for part in range(2):
        with (folder / f"model-{part}.safetensors").open("wb") as out:
            out.write(weights(weight_bytes // 4, seed=part))
    chance = random.Random(1)
    words = [chance.randbytes(4).hex() for _ in range(2000)]
    for index in range(files):
        where = folder / f"code/{index % 100:02}"
        where.mkdir(parents=True, exist_ok=True)
        size = chance.randrange(45_000)
        noise = index % 3 == 0
        content = chance.randbytes(size) if noise else " ".join(chance.choices(words, k=size // 9)).encode()
        (where / f"file{index}").write_bytes(content)


def change(folder: Path, seed: int) -> int:
    """Change 1 % in place; the bytes changed. Weights become other weights of the same file, so they stay as random."""
    chance = random.Random(seed)
    changed = 0
    for path in folder.glob("*.safetensors"):
        size = path.stat().st_size
        with path.open("r+b") as out:
            for part in range(RUNS):
                length = size // 100 // RUNS // 2 * 2
                start = size // RUNS * part + chance.randrange(size // RUNS - length)
                source = chance.randrange(size - length)
                out.seek(source)
                content = out.read(length)
                out.seek(start)
                out.write(content[1:] + content[:1])
                changed += length
    files = sorted((folder / "code").rglob("file*"))
    for path in chance.sample(files, len(files) // 100):
        content = chance.randbytes(path.stat().st_size)
        path.write_bytes(content)
        changed += len(content)
    return changed


def warm(folder: Path) -> None:
    """Bring all pages in."""
    buffer = bytearray(MIB)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as source:
                while source.readinto(buffer):
                    pass


@contextmanager
def server(root: Path) -> Iterator[str]:
    """An S3 server that keeps its objects below a folder; its URL."""
    port = free_port()
    (root / "store" / BUCKET).mkdir(parents=True)
    command = [sys.executable, "-m", "localbucket", "--port", str(port), str(root / "store")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def measure(contestants: list[Contestant], root: Path, rounds: int) -> tuple[dict[str, Times], int]:
    """All rounds; times by name, and the bytes that changed between full and incremental."""
    times = {contestant.name: Times() for contestant in contestants}
    data, changed = root / "data", 0
    for number in range(rounds):
        for contestant in contestants:
            contestant.fresh(number)
            warm(data)
            times[contestant.name].full.append(contestant.snapshot(data))
            times[contestant.name].stored.append(contestant.stored_bytes())
        changed = change(data, seed=100 + number)
        for contestant in contestants:
            warm(data)
            times[contestant.name].incremental.append(contestant.snapshot(data))
            times[contestant.name].added.append(contestant.stored_bytes() - times[contestant.name].stored[-1])
        for contestant in contestants:
            warm(root / "store")
            times[contestant.name].restore.append(contestant.restore(root / "back"))
            shutil.rmtree(root / "back")
    return times, changed


def stored_of_weights(root: Path, endpoint: str, data: Path) -> tuple[int, int]:
    """Bytes of one weights file, and what ours stores of it."""
    alone = root / "weights alone"
    alone.mkdir()
    shutil.copy(next(data.glob("*.safetensors")), alone)
    engine = Engine(root, endpoint)
    engine.fresh(10_000)
    engine.snapshot(alone)
    stored = engine.stored_bytes()
    shutil.rmtree(alone)
    return next(data.glob("*.safetensors")).stat().st_size, stored


def figures(times: dict[str, Times], weights_stored: float, changed: int) -> list[Figure]:
    """What the goals are about; each goal is the most that the value may be."""
    ours, without = times["dumont"], times[WITHOUT]
    found = []
    for rival in (name for name in times if name.startswith("restic")):
        their = times[rival]
        for phase, goal in (("full", 1 / 3), ("incremental", 1 / 4), ("restore", 1 / 2)):
            ratio = ours.median(phase) / their.median(phase)
            found.append(Figure(name=f"{phase}: time ÷ {rival}", value=ratio, unit="×", goal=goal))
            if phase != "restore":
                ratio = without.median(phase) / their.median(phase)
                found.append(Figure(name=f"– {WITHOUT}", value=ratio, unit="×"))
        found.append(Figure(name=f"stored ÷ {rival}", value=ours.stored[-1] / their.stored[-1], unit="×"))
    share = ours.median("restore") / times["plain copy"].median("restore")
    extra = statistics.median(ours.added) / changed
    return [
        *found,
        Figure(name="restore: time ÷ plain copy", value=share, unit="×", goal=1 / 0.70),
        Figure(name="bf16 weights: stored ÷ size", value=weights_stored, unit="×", goal=0.70),
        Figure(name="incremental: stored ÷ changed", value=extra, unit="×", goal=1.5),
        Figure(name="peak memory", value=ours.peak_mib(), unit="MiB", goal=512),
    ]


def show_times(times: dict[str, Times]) -> None:
    print(
        f"\n{'':17} {'full s (CPU)':>16} {'incremental':>16} {'restore':>16} {'stored MB':>10} {'added':>7} {'MiB':>6}"
    )
    for name, value in times.items():
        cells = [f"{value.median(phase):7.2f} ({value.cpu(phase):5.1f})" for phase in PHASES]
        stored, added = statistics.median(value.stored) / 1e6, statistics.median(value.added) / 1e6
        line = " ".join(f"{cell:>16}" for cell in cells)
        print(f"{name:17} {line} {stored:10.0f} {added:7.1f} {value.peak_mib():6.0f}")
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description="measure snapshots")
    parser.add_argument("--small", action="store_true", help="256 MiB and 2,000 files instead of 2 GiB and 20,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restic", action="append", help="a restic to measure; default: the one on the path")
    parser.add_argument("--where", type=Path, default=Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"))
    arguments = parser.parse_args()
    found = shutil.which("restic")
    rivals = arguments.restic or ([found] if found else [])
    weight_bytes, files = (256 * MIB, 2_000) if arguments.small else (2048 * MIB, 20_000)
    with tempfile.TemporaryDirectory(dir=arguments.where, prefix="dumont-bench-") as folder:
        root = Path(folder)
        # In a process of its own: what this one holds would count as its children's peak memory.
        making = multiprocessing.get_context("spawn").Process(
            target=make_data, args=(root / "data", weight_bytes, files)
        )
        making.start()
        making.join()
        with server(root) as endpoint:
            small = Engine(root, endpoint, WITHOUT, {"md5": "small"})
            everyone: list[Contestant] = [Engine(root, endpoint), small, PlainCopy(root, endpoint)]
            everyone += [Restic(root, endpoint, binary) for binary in rivals]
            # Memory that was never touched is slow here: a first copy, not timed, touches as much as will be needed.
            shutil.copytree(root / "data", root / "touched")
            shutil.rmtree(root / "touched")
            times, changed = measure(everyone, root, arguments.rounds)
            size, stored = stored_of_weights(root, endpoint, root / "data")
    result = figures(times, stored / size, changed)
    result += [
        Figure(name=f"{name}: {phase}", value=value.median(phase), unit="s")
        for name, value in times.items()
        for phase in PHASES
    ]
    show_times(times)
    show_figures("snapshots", result)
    if not rivals:
        print("restic is not installed: apt-get install restic, or say --restic PATH")
    save(REPORT, result, weights_bytes=weight_bytes, small_files=files, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
