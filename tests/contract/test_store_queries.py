"""Every query of `dumont.queries` finds the same records, in the same order, on each store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from msgspec.structs import replace

from dumont import queries
from dumont.domain.alerts import Alert, AlertKind, Told
from dumont.domain.audit import AuditEntry
from dumont.domain.budgets import Budget, Credit
from dumont.domain.chats import Chat
from dumont.domain.jobs import Job
from dumont.domain.keys import ApiKey, TokenKey
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import (
    SHARDS,
    Instance,
    InstanceState,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Record,
    Role,
)
from dumont.domain.reputation import HostRecord
from dumont.domain.snapshots import Pack, Snapshot, SnapshotState
from dumont.domain.subscriptions import Attempt, Delivery, DeliveryState, Subscription
from dumont.ports import Query, Store, Where
from tests.contract.stores import STORES, instance, ledger_entry, machine, make_store, operation, put

NOW = 1000.0


def _records() -> list[Record]:
    """Some of everything, with deadlines none, passed, just passed and to come, and many ties."""
    chance = random.Random(7)
    deadlines = [None, 1.0, 999.5, 1000.0, 1000.5, 2000.0]
    records: list[Record] = []
    for number in range(40):
        times = {"created_at": float(chance.randrange(10)), "deadline": chance.choice(deadlines)}
        shard = chance.randrange(SHARDS // 2)
        records.append(machine(f"m{number}", state=chance.choice(list(MachineState)), shard=shard, **times))
        records.append(
            operation(
                f"op-{number}",
                machine=chance.choice(["m1", "m2", "é"]),
                state=chance.choice(list(OperationState)),
                shard=shard,
                **times,
            )
        )
        state = chance.choice(list(InstanceState))
        records.append(
            instance(
                f"i.{number}",
                machine=chance.choice(["m1", "m2"]),
                rented_by=chance.choice(["op-1", "op-2"]),
                operation_id=chance.choice(["op-1", "op-2"]),
                state=state,
                open=state is not InstanceState.GONE,
                provider_instance_id=str(number),
            )
        )
        records.append(
            Snapshot(
                id=f"snap-{number}",
                machine=chance.choice(["m1", "m2"]),
                epoch=1,
                operation_id="op-1",
                state=chance.choice(list(SnapshotState)),
                created_at=float(chance.randrange(9)),
                packs=(Pack("machines/m1/1/packs/a", 5, "d41d8cd98f00b204e9800998ecf8427e"),),
            )
        )
        records.append(
            ApiKey(
                id=f"key{number:08d}",
                name="ci",
                role=chance.choice(list(Role)),
                secret_sha256="0" * 64,
                created_at=float(chance.randrange(9)),
                revoked_at=chance.choice([None, 5.0]),
            )
        )
        key = f"vast.{number}"
        records.append(
            HostRecord(
                id=key, machine_key=key, provider="vast", machine_id=str(number), created_at=1.0, as_of=float(number)
            )
        )
        records.append(
            ledger_entry(
                f"i.{number}.gpu",
                machine=chance.choice(["m1", "m2"]),
                written_at=float(chance.randrange(9)),
                instance_id=f"i-{number % 4}",
                day=f"2026-11-{20 + number % 4}",
            )
        )
        records.append(Budget(id=f"machine.m{number}", machine=f"m{number}", deadline=float(number)))
        entry = AuditEntry(id=f"audit-{number}", at=1.0, who="key-1", name="n", what="w", status=202, expires_at=1e9)
        records.append(replace(entry, at=float(chance.randrange(9)), who=chance.choice(["key-1", "key-2"])))
        records.append(Credit(id=f"market-{number}", credit_usd=float(number), seen_at=NOW))
        job = Job(id=f"job-{number}", machine="m1", command="train", created_at=1.0, time_up_at=9.0, shard=shard)
        records.append(replace(job, **times))
        figures = {"share": 0.5, "spent_usd": float(number)}
        alert = Alert(id=f"budget.{number}", kind=AlertKind.BUDGET, written_at=NOW, figures=figures, shard=shard)
        records.append(replace(alert, words={"window": "day"}, deadline=times["deadline"]))
        asked = Chat(id=f"slack-{number}", kind="command", user="U1", text="é", received_at=NOW, expires_at=NOW + 9)
        records.append(replace(asked, deadline=times["deadline"], shard=shard))
        records.append(
            Subscription(id=f"sub-{number}", url="https://é.example", types=("*",), created_at=1.0, updated_at=1.0)
        )
        sent = Delivery(
            id=f"msg_{number}", subscription=f"sub-{number % 3}", type="dumont.test", body="{}", created_at=1.0,
            attempts=(Attempt(at=NOW, seconds=0.5, status=500),), shard=shard, expires_at=1e9,
        )  # fmt: skip
        stage = list(DeliveryState)[number // 3 % 3]
        records.append(replace(sent, created_at=float(number % 7), deadline=times["deadline"], state=stage))
        records.append(Told(id=f"budget.{number}", reference="C1/1.2", digest=number, sending=number % 2 == 0))
    return records


RECORDS = _records()


def of_kind(kind: type[Any], passes: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    return [record for record in RECORDS if isinstance(record, kind) and passes(record)]


def by(field: str, records: list[Any], *, newest_first: bool = False) -> list[Any]:
    return sorted(records, key=lambda record: (getattr(record, field), record.id), reverse=newest_first)


CASES: dict[str, tuple[type[Any], Query, list[Any]]] = {
    "due operations": (
        Operation,
        queries.due(NOW),
        by("deadline", of_kind(Operation, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "due alerts": (
        Alert,
        queries.due(NOW),
        by("deadline", of_kind(Alert, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "due chats": (
        Chat,
        queries.due(NOW),
        by("deadline", of_kind(Chat, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "due machines": (
        Machine,
        queries.due(NOW),
        by("deadline", of_kind(Machine, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "due jobs": (
        Job,
        queries.due(NOW),
        by("deadline", of_kind(Job, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "the latest jobs": (Job, queries.latest_jobs(limit=5), by("created_at", of_kind(Job), newest_first=True)[:5]),
    "the first few that are due": (
        Machine,
        queries.due(NOW, limit=2),
        by("deadline", of_kind(Machine, lambda r: r.deadline is not None and r.deadline <= NOW))[:2],
    ),
    "a machine's snapshots": (
        Snapshot,
        queries.snapshots_of_machine("m1"),
        by("created_at", of_kind(Snapshot, lambda r: r.machine == "m1"), newest_first=True),
    ),
    "the latest snapshots": (
        Snapshot,
        queries.latest_snapshots(limit=7),
        by("created_at", of_kind(Snapshot), newest_first=True)[:7],
    ),
    "open instances of a machine": (
        Instance,
        queries.instances_of_machine("m1"),
        by("id", of_kind(Instance, lambda r: r.machine == "m1" and r.open)),
    ),
    "instances that a machine ever had": (
        Instance,
        queries.instances_ever_of_machine("m1"),
        by("id", of_kind(Instance, lambda r: r.machine == "m1")),
    ),
    "instances of an operation": (
        Instance,
        queries.instances_of_operation("op-1"),
        by("id", of_kind(Instance, lambda r: r.operation_id == "op-1")),
    ),
    "instances rented by an operation": (
        Instance,
        queries.instances_rented_by("op-2"),
        by("id", of_kind(Instance, lambda r: r.rented_by == "op-2")),
    ),
    "instances that some machines ever had": (
        Instance,
        queries.instances_ever_of_machines(("m1", "é")),
        by("id", of_kind(Instance, lambda r: r.machine in ("m1", "é"))),
    ),
    "instances of some operations": (
        Instance,
        queries.instances_of_operations(("op-1", "op-2")),
        by("id", of_kind(Instance, lambda r: r.operation_id in ("op-1", "op-2"))),
    ),
    "instances rented by some operations": (
        Instance,
        queries.instances_rented_by_any(("op-2",)),
        by("id", of_kind(Instance, lambda r: r.rented_by == "op-2")),
    ),
    "open instances": (Instance, queries.open_instances(), by("id", of_kind(Instance, lambda r: r.open))),
    "a machine's history": (
        Operation,
        queries.history_of_machine("é", limit=5),
        by("created_at", of_kind(Operation, lambda r: r.machine == "é"), newest_first=True)[:5],
    ),
    "the latest operations": (
        Operation,
        queries.latest_operations(limit=7),
        by("created_at", of_kind(Operation), newest_first=True)[:7],
    ),
    "all machines": (Machine, queries.all_machines(), by("created_at", of_kind(Machine))),
    "a machine's ledger": (
        LedgerEntry,
        queries.ledger_of_machine("m2"),
        by("written_at", of_kind(LedgerEntry, lambda r: r.machine == "m2")),
    ),
    "the ledger of some days": (
        LedgerEntry,
        queries.ledger_of_days(("2026-11-21", "2026-11-22")),
        by("id", of_kind(LedgerEntry, lambda r: r.day in ("2026-11-21", "2026-11-22"))),
    ),
    "a machine's ledger of some days": (
        LedgerEntry,
        queries.ledger_of_machine_in_days("m1", ("2026-11-22",)),
        by("id", of_kind(LedgerEntry, lambda r: r.machine == "m1" and r.day == "2026-11-22")),
    ),
    "the ledger of some instances": (
        LedgerEntry,
        queries.ledger_of_instances(("i-1", "i-2")),
        by("id", of_kind(LedgerEntry, lambda r: r.instance_id in ("i-1", "i-2"))),
    ),
    "instances by their provider's ids": (
        Instance,
        queries.instances_of_provider_ids(("7", "8")),
        by("id", of_kind(Instance, lambda r: r.provider_instance_id in ("7", "8"))),
    ),
    "the latest of the audit log": (
        AuditEntry,
        queries.latest_audit(limit=6),
        by("at", of_kind(AuditEntry), newest_first=True)[:6],
    ),
    "what one key changed": (
        AuditEntry,
        queries.audit_of("key-1", limit=4),
        by("at", of_kind(AuditEntry, lambda r: r.who == "key-1"), newest_first=True)[:4],
    ),
    "all subscriptions": (Subscription, queries.all_subscriptions(), by("id", of_kind(Subscription))),
    "a subscription's deliveries": (
        Delivery,
        queries.deliveries_to("sub-1", limit=9),
        by("created_at", of_kind(Delivery, lambda r: r.subscription == "sub-1"), newest_first=True)[:9],
    ),
    "a subscription's dead deliveries": (
        Delivery,
        queries.deliveries_in_state("sub-1", "dead", limit=3),
        by(
            "created_at",
            of_kind(Delivery, lambda r: r.subscription == "sub-1" and r.state is DeliveryState.DEAD),
            newest_first=True,
        )[:3],
    ),
    "due deliveries": (
        Delivery,
        queries.due(NOW),
        by("deadline", of_kind(Delivery, lambda r: r.deadline is not None and r.deadline <= NOW)),
    ),
    "all budgets": (Budget, queries.all_budgets(), by("id", of_kind(Budget))),
    "what each provider last said of its credit": (Credit, queries.all_credits(), by("id", of_kind(Credit))),
    "what we know of some machines of hosts": (
        HostRecord,
        queries.hosts_by_key(("vast.7", "vast.12", "vast.none")),
        by("id", of_kind(HostRecord, lambda r: r.machine_key in ("vast.7", "vast.12"))),
    ),
    "whether any machine is open": (
        Machine,
        queries.any_machine_open(),
        by(
            "id",
            of_kind(
                Machine,
                lambda r: r.state not in (MachineState.DESTROYED, MachineState.FAILED, MachineState.HIBERNATED),
            ),
        )[:1],
    ),
    "whether any operation is open": (
        Operation,
        queries.any_operation_open(),
        by("id", of_kind(Operation, lambda r: r.state is OperationState.RUNNING))[:1],
    ),
    "the open operations of a kind": (
        Operation,
        queries.open_operations_of_kind(OperationKind.PROVISION),
        by("id", of_kind(Operation, lambda r: r.kind is OperationKind.PROVISION and r.state is OperationState.RUNNING)),
    ),
    "the machines in a state": (
        Machine,
        queries.machines_in_state(MachineState.RUNNING),
        by("id", of_kind(Machine, lambda r: r.state is MachineState.RUNNING)),
    ),
    "whether any instance is open": (
        Instance,
        queries.any_instance_open(),
        by("id", of_kind(Instance, lambda r: r.open))[:1],
    ),
    "whether anything has a deadline": (
        Operation,
        queries.any_deadline(),
        by("deadline", of_kind(Operation, lambda r: r.deadline is not None))[:1],
    ),
    "ordered by a field that some lack": (
        Machine,
        Query(order_by="deadline"),
        by("deadline", of_kind(Machine, lambda r: r.deadline is not None)),
    ),
    "a bound without an order goes by the bounded field": (
        Machine,
        Query(where=(Where("deadline", "<=", 999.5),)),
        by("deadline", of_kind(Machine, lambda r: r.deadline is not None and r.deadline <= 999.5)),
    ),
    "all keys": (ApiKey, queries.all_keys(), by("created_at", of_kind(ApiKey))),
    "no condition at all": (Machine, Query(), by("id", of_kind(Machine))),
}


@pytest.fixture(params=STORES, scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("store")
    for made in make_store(request.param, folder, request):
        put(made, *RECORDS)
        yield made


@pytest.mark.parametrize("case", CASES)
def test_a_query_finds_what_it_says_in_its_order(store: Store, case: str) -> None:
    kind, query, expected = CASES[case]
    assert expected, "a case that finds nothing shows nothing"
    assert [record.id for record in store.find(kind, query)] == [record.id for record in expected]
    assert store.find(kind, query) == expected


def test_each_query_that_dumont_makes_has_a_case() -> None:
    names = {name for name, value in vars(queries).items() if isinstance(value, FunctionType)}
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in names if f"queries.{name}(" not in source] == []


def test_what_is_in_none_of_the_values_is_not_found(store: Store) -> None:
    wanted = Query(where=(Where("shard", "in", (1, 2)),))
    expected = by("id", of_kind(Operation, lambda r: r.shard in (1, 2)))
    assert store.find(Operation, wanted) == expected


def test_going_backwards_needs_a_field_to_go_by(store: Store) -> None:
    with pytest.raises(ValueError, match="descending"):
        store.find(Machine, Query(descending=True))


def test_an_empty_collection_has_nothing_to_find(store: Store) -> None:
    assert store.find(TokenKey, Query()) == []
