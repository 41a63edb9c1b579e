"""What the object store costs, a day and machine at a time: bytes kept, and downloads beyond the free share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dumont.domain import object_store_prices as prices
from dumont.domain.ledger import BYTES_PER_GB, DAY_SECONDS, Kind, LedgerEntry, day_of, micro_usd
from dumont.domain.snapshots import Snapshot, SnapshotState

_KEPT = (SnapshotState.COMPLETE, SnapshotState.INCOMPLETE)


def stored_bytes(snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """What each machine's snapshots keep in the object store, in bytes: a pack that several share counts once."""
    packs: dict[str, dict[str, int]] = {}
    for snapshot in snapshots:
        if snapshot.state not in _KEPT:
            continue
        mine = packs.setdefault(snapshot.machine, {})
        for pack in (*snapshot.packs, *((snapshot.manifest,) if snapshot.manifest is not None else ())):
            mine[pack.key] = pack.size
    return {machine: sum(sizes.values()) for machine, sizes in packs.items()}


def storage_entries(stored: Mapping[str, int], from_time: float, to_time: float, now: float) -> list[LedgerEntry]:
    """One entry a machine for a stretch of time within one day. Estimated: what is kept now was kept all of it."""
    day_share = (to_time - from_time) / DAY_SECONDS
    made = []
    for machine, size in sorted(stored.items()):
        gb_months = size / BYTES_PER_GB * day_share / prices.DAYS_PER_MONTH
        amount = micro_usd(gb_months * prices.STORAGE_USD_PER_GB_MONTH)
        if amount > 0:
            made.append(
                _entry(Kind.OBJECT_STORAGE, machine, amount, size / BYTES_PER_GB, from_time, to_time, now,
                       prices.STORAGE_USD_PER_GB_MONTH, f"per GB and month of {prices.DAYS_PER_MONTH:.0f} days")
            )  # fmt: skip
    return made


def download_entry(
    downloaded_bytes: float,
    stored: Mapping[str, int],
    entered_micro_usd: int,
    from_time: float,
    to_time: float,
    now: float,
) -> LedgerEntry | None:
    """What this month's downloads cost beyond the free share and what is entered already; None for nothing.

    `downloaded_bytes`: since the month began. The free share is taken from what is kept now.
    """
    free_bytes = prices.FREE_DOWNLOAD_TIMES * sum(stored.values())
    gb = max(0.0, downloaded_bytes - free_bytes) / BYTES_PER_GB
    amount = micro_usd(gb * prices.DOWNLOAD_USD_PER_GB) - entered_micro_usd
    if amount <= 0:
        return None
    note = f"beyond {prices.FREE_DOWNLOAD_TIMES:.0f} times what is stored"
    return _entry(Kind.OBJECT_DOWNLOAD, "", amount, gb, from_time, to_time, now, prices.DOWNLOAD_USD_PER_GB, note)


def _entry(
    kind: Kind,
    machine: str,
    amount: int,
    gb: float,
    from_time: float,
    to_time: float,
    now: float,
    rate: float,
    note: str,
) -> LedgerEntry:
    return LedgerEntry(
        id=f"{machine or 'all'}.{kind}.{day_of(from_time)}",
        machine=machine,
        instance_id="",
        operation_id="",
        provider=prices.PROVIDER,
        gpu="",
        kind=kind.value,
        source="estimated",
        amount_micro_usd=amount,
        usd_per_hour=0.0,
        quantity_gb=gb,
        usd_per_gb=rate,
        from_time=from_time,
        to_time=to_time,
        day=day_of(from_time),
        written_at=now,
        note=f"{note}, as of {prices.AS_OF}",
    )
