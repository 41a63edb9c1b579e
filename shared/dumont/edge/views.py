"""What goes out: records as the API shows them, with times and money worked out. None and empty are left out."""

from __future__ import annotations

from typing import Any

import msgspec

from dumont.domain import costs
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import Instance, InstanceState, Machine, OperationKind, Step
from dumont.domain.snapshots import Snapshot
from dumont.operations.look import MachineSeen, OperationSeen

HIDDEN = (
    "schema_version",
    "shard",
    "deadline",
    "lease_owner",
    "lease_until",
    "candidates",
    "not_before",
    "tries",
    "store_key_id",
    "engine_run",
)


def _plain(record: msgspec.Struct, *hidden: str) -> dict[str, Any]:
    fields = msgspec.to_builtins(record)
    return {k: v for k, v in fields.items() if v is not None and k not in HIDDEN and k not in hidden}


def usd(amount: float) -> float:
    """Money as it is shown: to the millionth, which is what the ledger keeps."""
    return round(amount, 6)


def instance(record: Instance, now: float) -> dict[str, Any]:
    """One rental."""
    cost = costs.accrued(record, now)
    view = _plain(record, "next_check_at", "open", "outcome_unknown", "keys_attached")
    return view | {
        "cost_usd": usd(cost.total_usd),
        "gpu_usd": usd(cost.gpu_usd),
        "storage_usd": usd(cost.storage_usd),
        "price_usd_per_hour": usd(record.offer.total_usd_per_hour(record.disk_gb)),
    }


def machine(seen: MachineSeen) -> dict[str, Any]:
    """One machine; `name` is its id."""
    view = _plain(seen.machine, "id")
    current = seen.current
    if current is not None:
        view["offer"] = msgspec.to_builtins(current.offer)
        view["price_usd_per_hour"] = usd(current.offer.total_usd_per_hour(current.disk_gb))
        if current.proof is not None:
            view["proof"] = msgspec.to_builtins(current.proof)
    if seen.spare is not None:
        view["spare"] = spare(seen.spare)
    if seen.machine.ssh is not None:
        view["route"] = route(seen.machine)
    if seen.heartbeat is not None:
        view["heartbeat"] = heartbeat(seen.heartbeat, seen.now)
    view["cost_usd"] = usd(seen.cost.total_usd)
    return {"name": seen.machine.id} | view


def spare(record: Instance) -> dict[str, Any]:
    """A machine's spare: where it is, whether it runs, what it has, what it costs now."""
    offer, stopped = record.offer, record.state is InstanceState.STOPPED
    rate = offer.storage_usd_per_hour(record.disk_gb) if stopped else offer.total_usd_per_hour(record.disk_gb)
    view = {
        "instance_id": record.id,
        "state": "stopped" if stopped else "running" if record.state is InstanceState.PROVEN else "starting",
        "region": offer.region,
        "host_id": offer.host_id,
        "snapshot_id": record.restored_snapshot_id,
        "price_usd_per_hour": usd(rate),
    }
    return {k: v for k, v in view.items() if v is not None}


def heartbeat(beat: Heartbeat, now: float) -> dict[str, Any]:
    """What an agent last said of itself and its host, and how long ago. What it does not know is left out."""
    return {
        "received_at": beat.received_at,
        "age_seconds": round(max(0.0, now - beat.received_at), 3),
        "sequence": beat.sequence,
        "workload": _known(beat.workload) | {"state": beat.workload.state, "restarts": beat.workload.restarts},
        "readings": _known(beat.readings),
        "agent": _known(beat.agent),
    }


def _known(part: msgspec.Struct) -> dict[str, Any]:
    return {field: value for field, value in msgspec.to_builtins(part).items() if value is not None}


def route(machine: Machine) -> dict[str, Any]:
    """Where a machine's name leads now; without `ssh` nowhere, and `state` says whether that will change."""
    view = {"machine": machine.id, "epoch": machine.epoch, "state": machine.state.value}
    if machine.ssh is not None:
        view |= {
            "ssh": msgspec.to_builtins(machine.ssh),
            "host_key": machine.host_key,
            "instance_id": machine.instance_id,
            "paused_instance_id": machine.paused_instance_id,
            "slept_at": machine.slept_at,
        }
    return {k: v for k, v in view.items() if v is not None} | {"updated_at": machine.updated_at}


def machine_with_instances(seen: MachineSeen) -> dict[str, Any]:
    """One machine and each rental of its present life."""
    return {"machine": machine(seen), "instances": [instance(i, seen.now) for i in seen.instances]}


def operation(seen: OperationSeen) -> dict[str, Any]:
    """One operation: its steps with seconds and cost, its rentals, what it has cost.

    A step's cost is what all its rentals accrued while it went on; steps of a race overlap, so their costs do too.
    """
    view = _plain(seen.operation, "steps")
    view["steps"] = [_step(step, seen) for step in seen.operation.steps]
    view["instances"] = [instance(i, seen.now) for i in seen.instances]
    view["cost_usd"] = usd(costs.total(seen.instances, seen.now).total_usd)
    if seen.operation.kind is OperationKind.DRILL and "serves_seconds" in seen.operation.progress:
        found = view.pop("progress")
        view["rehearsal"] = found | {"byte_for_byte": bool(found.get("byte_for_byte"))}
    return view


def snapshot(record: Snapshot) -> dict[str, Any]:
    """One snapshot: what it holds and whether it counts; its packs as numbers."""
    view = _plain(record, "packs", "manifest", "manifest_sha256")
    return view | {"packs": len(record.packs), "stored_bytes": sum(pack.size for pack in record.packs)}


def _step(step: Step, seen: OperationSeen) -> dict[str, Any]:
    accrued = sum(
        (
            costs.accrued(i, seen.now, from_time=step.started_at, to_time=step.ended_at)
            for i in seen.instances
            if step.instance_id in (None, i.id)
        ),
        costs.Cost(),
    )
    return _plain(step) | {
        "ok": step.ok,
        "seconds": round(step.ended_at - step.started_at, 6),
        "cost_usd": usd(accrued.total_usd),
    }
