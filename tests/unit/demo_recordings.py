"""A recording of a demo run like the real ones, for the tests of its report."""

from __future__ import annotations

from dumont.domain.offers import Offer
from dumont.domain.records import Check as ProofCheck
from dumont.domain.records import GpuReading, Instance, InstanceState, Proof
from dumont.local.demo.recording import Check, MarketBill, Recording, Resource, Span

START = 1_795_000_000.0


def rental(
    label: str,
    *,
    intended: float,
    booted: float | None,
    gone: float,
    proven: float | None = None,
    releasing: float | None = None,
    region: str = "Quebec, CA",
    price: float = 0.36,
) -> Instance:
    """A rental whose times are seconds from the start."""

    def at(seconds: float | None) -> float | None:
        return None if seconds is None else START + seconds

    return Instance(
        id=label,
        machine="demo",
        epoch=1,
        operation_id="op-1",
        rented_by="op-1",
        provider="vast",
        offer=Offer(
            provider="vast",
            id=label,
            gpu="RTX 4090",
            gpu_usd_per_hour=price,
            storage_usd_per_gb_hour=0.1 / 720,
            vram_gib=24,
            region=region,
            host_id=f"host-{label}",
            reliability=0.99,
            cpu_cores=16,
            memory_gib=64,
        ),
        disk_gb=20,
        state=InstanceState.GONE,
        open=False,
        intended_at=START + intended,
        created_at=START + intended + 0.1,
        # Seen booting at the same moment: what it billed is then exact, not half-way between two looks.
        seen_booting_at=at(booted),
        booted_at=at(booted),
        proven_at=at(proven),
        releasing_at=at(releasing),
        gone_at=at(gone),
    )


WINNER = rental("b", intended=0.5, booted=8.0, proven=9.5, releasing=14.0, gone=14.8, region="Sweden, SE", price=0.31)
LOSERS = (
    rental("a", intended=0.3, booted=9.0, releasing=9.6, gone=10.6),
    rental("c", intended=0.7, booted=None, releasing=9.6, gone=10.4, region="Texas, US", price=0.34),
)


def spans() -> tuple[Span, ...]:
    """The winner's path, with gaps, and a release that overlaps the use."""
    steps = (
        ("search", 0.0, 0.2),
        ("search", 0.22, 0.3),
        ("rent", 0.3, 0.4),
        ("rent", 0.5, 0.6),
        ("boot", 0.6, 8.0),
        ("ssh", 8.1, 8.6),
        ("mkdir", 8.6, 8.7),
        ("write", 8.7, 8.85),
        ("read back", 8.85, 8.95),
        ("nvidia-smi", 8.95, 9.3),
        ("disk", 9.3, 9.5),
        ("release", 9.6, 10.6),
        ("use", 10.4, 12.0),
        ("destroy refused", 12.1, 13.0),
        ("destroy", 13.9, 14.8),
        ("confirm gone", 14.85, 15.0),
    )
    return tuple(Span(name=name, started_at=START + start, ended_at=START + end) for name, start, end in steps)


def proof() -> Proof:
    """What was tried on the winner."""
    names = ("ssh", "mkdir", "write", "read back", "nvidia-smi", "disk")
    return Proof(
        checks=tuple(ProofCheck(name=name, ok=True, seconds=0.2) for name in names),
        started_at=START + 8.1,
        seconds=1.4,
        gpus=(GpuReading(model="NVIDIA GeForce RTX 4090", vram_mib=24564, driver_version="550.54.14"),),
        disk_free_gb=19.6,
    )


def recording(*, checks: tuple[Check, ...] = (Check(name="search finds offers", ok=True, seen="32"),)) -> Recording:
    """The whole run."""
    return Recording(
        machine="demo",
        started_at=START,
        ended_at=START + 15.0,
        demo_seconds=18.4,
        time_scale=0.1,
        spans=spans(),
        instances=(WINNER, *LOSERS),
        checks=checks,
        winner_id="b",
        proof=proof(),
        gpus=proof().gpus,
        bills=(MarketBill(instance_id="b", gpu_usd=0.00061, storage_usd=0.000011),),
        offers_found=32,
        output=("NVIDIA GeForce RTX 4090, 24564 MiB, 550.54.14", "pi is about 3.14159 <ok>"),
        saved=(Resource(name="snapshot", value="24.0 MB sent in 2 packs"),),
        moved=(Resource(name="noticed", value="fenced 4.52 s after: no heartbeat"),),
    )
