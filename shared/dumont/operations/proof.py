"""The proof: over SSH, that an instance is the machine that was offered. Hosts are hostile: nothing is taken on trust.

What is written is random and read back to us, so that a host cannot know the answer; its own hash tools are not used.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
from collections.abc import Callable

from dumont.domain import gpus
from dumont.domain.offers import Offer
from dumont.domain.records import Check, GpuReading, MachineSpec, Proof, SshEndpoint
from dumont.ports import Clock, CommandResult, Ids, Shell, ShellSession

PROBE_BYTES = 1 << 20
VRAM_SHARE_MIN = 0.9  # drivers report a little less than the data sheet: 24,564 MiB of 24 GiB
DISK_SHARE_MIN = 0.5  # the image itself lies on the rented disk
NVIDIA_SMI = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits"


def prove(shell: Shell, endpoint: SshEndpoint, offer: Offer, spec: MachineSpec, *, clock: Clock, ids: Ids) -> Proof:
    """Try SSH, workspace, GPU and disk; answer with each check, what was seen and how long it took.

    Raises `ShellUnreachable` or `ShellRefused` while SSH does not let us in: that proves nothing yet. A check that
    fails ends the proof.
    """
    started_at = clock.now()
    session = shell.connect(endpoint, host_key=None, timeout_seconds=6.0)
    try:
        return _prove(session, started_at, offer, spec, clock=clock, ids=ids)
    finally:
        session.close()


class _Failed(Exception):
    pass


def _prove(
    session: ShellSession, started_at: float, offer: Offer, spec: MachineSpec, *, clock: Clock, ids: Ids
) -> Proof:
    checks = [Check(name="ssh", ok=True, seconds=clock.now() - started_at, seen=session.host_key.split(" ")[0])]
    readings: list[GpuReading] = []
    disk_free_gb: list[float] = []

    def check(name: str, attempt: Callable[[], str]) -> None:
        began = clock.now()
        try:
            seen, ok = attempt(), True
        except _Failed as failure:
            seen, ok = str(failure), False
        checks.append(Check(name=name, ok=ok, seconds=clock.now() - began, seen=seen[:300]))
        if not ok:
            raise _Failed

    folder = shlex.quote(spec.workspace)
    probe = shlex.quote(f"{spec.workspace}/.{ids.new('proof')}")
    payload = ids.random_bytes(PROBE_BYTES)

    def mkdir() -> str:
        _succeed(session.run(f"mkdir -p -- {folder}"))
        return spec.workspace

    def write() -> str:
        _succeed(session.run(f"cat > {probe}", stdin=payload))
        return f"{len(payload) // 1024} KiB of random bytes"

    def read_back() -> str:
        result = _succeed(session.run(f"cat -- {probe} && rm -f -- {probe}"))
        if result.stdout != payload:
            raise _Failed(f"{len(result.stdout)} bytes came back that are not those written")
        return f"sha256 {hashlib.sha256(payload).hexdigest()}"

    def nvidia_smi() -> str:
        found = _read_gpus(_succeed(session.run(NVIDIA_SMI)).stdout)
        readings.extend(found)
        _compare_gpus(found, offer)
        first = found[0]
        return f"{len(found)} × {first.model}, {first.vram_mib:.0f} MiB, driver {first.driver_version}"

    def disk() -> str:
        free_gb = _read_free_gb(_succeed(session.run(f"df -Pk -- {folder}")).stdout)
        disk_free_gb.append(free_gb)
        if free_gb < spec.disk_gb * DISK_SHARE_MIN:
            raise _Failed(f"{free_gb:.1f} GB free of {spec.disk_gb:.0f} GB rented")
        return f"{free_gb:.1f} GB free"

    try:
        check("mkdir", mkdir)
        check("write", write)
        check("read back", read_back)
        check("nvidia-smi", nvidia_smi)
        check("disk", disk)
    except _Failed:
        pass  # the failed check is in the list, with what was seen
    return Proof(
        checks=tuple(checks),
        started_at=started_at,
        seconds=clock.now() - started_at,
        gpus=tuple(readings),
        disk_free_gb=disk_free_gb[0] if disk_free_gb else None,
        host_key=session.host_key,
    )


def _succeed(result: CommandResult) -> CommandResult:
    if result.exit_status != 0:
        said = (result.stderr or result.stdout).decode("utf-8", "replace").strip()
        raise _Failed(f"exit status {result.exit_status}: {said[:200]}")
    return result


def _read_gpus(output: bytes) -> list[GpuReading]:
    readings = []
    for row in csv.reader(io.StringIO(output.decode("utf-8", "replace"))):
        if len(row) < 3 or not row[0].strip():
            continue
        readings.append(
            GpuReading(model=row[0].strip()[:100], vram_mib=_number(row[1]), driver_version=row[2].strip()[:40])
        )
    return readings


def _number(text: str) -> float | None:
    try:
        return float(text.strip())
    except ValueError:
        return None  # "[N/A]": unknown, which is not zero


def _compare_gpus(found: list[GpuReading], offer: Offer) -> None:
    if len(found) < offer.gpu_count:
        raise _Failed(f"{len(found)} GPUs where {offer.gpu_count} were offered")
    for reading in found:
        if not gpus.same_model(reading.model, offer.gpu):
            raise _Failed(f"it has a {reading.model} where a {offer.gpu} was offered")
        if reading.vram_mib is None:
            raise _Failed(f"the driver does not say how much memory its {reading.model} has")
        if offer.vram_gib is not None and reading.vram_mib < offer.vram_gib * 1024 * VRAM_SHARE_MIN:
            raise _Failed(f"{reading.vram_mib:.0f} MiB of GPU memory where {offer.vram_gib:.0f} GiB were offered")


def _read_free_gb(output: bytes) -> float:
    """Free space from `df -Pk` (POSIX: one line a file system; the fourth column is available KiB)."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    columns = lines[-1].split() if len(lines) >= 2 else []
    if len(columns) < 4 or not columns[3].isdigit():
        raise _Failed("df's answer cannot be read")
    return int(columns[3]) * 1024 / 1e9
