"""Versions side by side: an older record is brought up to now, a newer one keeps what we do not know of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from dumont.adapters import encoding
from dumont.adapters.memory_store import MemoryStore
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.collections import RECORDS
from dumont.domain.errors import RecordTooNew
from dumont.domain.records import Migration, Record
from dumont.edge.problems import document_of
from dumont.ports import Query, Store

# --- A kind of record in the three versions that it has had -------------------------------------------------------


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    size: float
    worn: bool = False


class CartOne(Record, frozen=True, kw_only=True):
    """The first version."""

    collection: ClassVar[str] = "carts"

    load_kg: float
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None


def _grams(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"load_g": round(document.pop("load_kg") * 1000)}


def _owner(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"owners": [document.pop("owner")] if "owner" in document else []}


class CartTwo(Record, frozen=True, kw_only=True):
    """The second: its load is in grams."""

    collection: ClassVar[str] = "carts"
    migrations: ClassVar[tuple[Migration, ...]] = (_grams,)

    schema_version: int = 2
    load_g: int
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    owner: str = ""


class CartThree(Record, frozen=True, kw_only=True):
    """The third: it may have several owners."""

    collection: ClassVar[str] = "carts"
    migrations: ClassVar[tuple[Migration, ...]] = (_grams, _owner)

    schema_version: int = 3
    load_g: int
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    owners: tuple[str, ...] = ()


class PaintedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel as a later version has it, which reads the same."""

    size: float
    worn: bool = False
    colour: str = ""


class PaintedCart(Record, frozen=True, kw_only=True):
    """The first version, and fields that were added since."""

    collection: ClassVar[str] = "carts"

    load_kg: float
    wheels: tuple[PaintedWheel, ...] = ()
    spare: PaintedWheel | None = None
    colour: str = ""


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return SqliteStore(tmp_path / "carts.db") if request.param == "sqlite" else MemoryStore(serialise=True)


def put(store: Store, record: Record) -> None:
    store.transact(lambda tx: tx.put(record))


def change(store: Store, kind: type[Any], work: Callable[[Any], Record]) -> None:
    store.transact(lambda tx: tx.put(work(tx.get(kind, "a"))))


# --- Older records ------------------------------------------------------------------------------------------------


def test_a_record_without_a_version_is_of_the_first() -> None:
    assert encoding.from_document(CartOne, {"id": "a", "load_kg": 2.5}) == CartOne(id="a", load_kg=2.5)


def test_an_older_record_is_read_through_each_migration_in_turn() -> None:
    assert encoding.from_document(CartThree, {"id": "a", "load_kg": 2.5}) == CartThree(id="a", load_g=2500)
    second = {"id": "a", "schema_version": 2, "load_g": 2500, "owner": "ada"}
    assert encoding.from_document(CartThree, second) == CartThree(id="a", load_g=2500, owners=("ada",))


def test_reading_does_not_change_what_was_read() -> None:
    document = {"id": "a", "load_kg": 2.5}
    encoding.from_document(CartThree, document)
    assert document == {"id": "a", "load_kg": 2.5}


def test_a_migrated_record_is_stored_as_such_by_its_next_write_and_not_before(store: Store) -> None:
    put(store, CartOne(id="a", load_kg=2.5))
    assert store.get(CartThree, "a") == CartThree(id="a", load_g=2500)
    assert store.find(CartThree, Query()) == [CartThree(id="a", load_g=2500)]
    assert store.get(CartOne, "a") == CartOne(id="a", load_kg=2.5)
    change(store, CartThree, lambda cart: replace(cart, owners=("ada",)))
    with pytest.raises(RecordTooNew, match="version 3; we know up to 1"):
        store.get(CartOne, "a")
    assert store.get(CartThree, "a") == CartThree(id="a", load_g=2500, owners=("ada",))


def test_what_a_migration_cannot_read_is_refused_and_named() -> None:
    with pytest.raises(encoding.UnreadableRecord, match="'a' cannot be migrated from version 1"):
        encoding.from_document(CartTwo, {"id": "a", "load_kg": "heavy"})


def test_a_version_without_its_migration_is_found_at_the_first_read() -> None:
    class Forgotten(Record, frozen=True, kw_only=True):
        schema_version: int = 2

    with pytest.raises(TypeError, match="Forgotten is at schema version 2 and has 0 migrations"):
        encoding.from_document(Forgotten, {"id": "a"})


def test_every_kind_has_a_migration_from_each_version() -> None:
    for kind in RECORDS:
        version = next(field.default for field in msgspec.structs.fields(kind) if field.name == "schema_version")
        assert len(kind.migrations) == int(version) - 1, kind.__name__


def test_a_record_that_is_too_new_is_no_fault_of_the_caller() -> None:
    document = document_of(RecordTooNew("Machine 'a' has schema version 9; we know up to 1"))
    assert (document.status, document.code) == (503, "newer_record")


# --- Newer records ------------------------------------------------------------------------------------------------

PAINTED = PaintedCart(
    id="a",
    load_kg=1.0,
    colour="red",
    wheels=(PaintedWheel(size=1.0, colour="blue"), PaintedWheel(size=2.0, colour="green")),
    spare=PaintedWheel(size=3.0, colour="white"),
)


def test_an_older_version_that_changes_a_record_keeps_what_it_does_not_know(store: Store) -> None:
    put(store, PAINTED)
    change(store, CartOne, lambda cart: replace(cart, load_kg=2.0))
    assert store.get(PaintedCart, "a") == replace(PAINTED, load_kg=2.0)


def test_an_item_of_a_list_keeps_it_wherever_it_goes(store: Store) -> None:
    put(store, PAINTED)
    change(store, CartOne, lambda cart: replace(cart, wheels=(*cart.wheels[1:], Wheel(size=9.0))))
    found = store.get(PaintedCart, "a")
    assert found is not None
    assert found.wheels == (PaintedWheel(size=2.0, colour="green"), PaintedWheel(size=9.0))


def test_a_value_that_was_made_anew_has_nothing_of_the_one_before(store: Store) -> None:
    put(store, PAINTED)
    change(store, CartOne, lambda cart: replace(cart, spare=Wheel(size=4.0)))
    assert store.get(PaintedCart, "a") == replace(PAINTED, spare=PaintedWheel(size=4.0))
    change(store, CartOne, lambda cart: replace(cart, spare=None))
    assert store.get(PaintedCart, "a") == replace(PAINTED, spare=None)


def test_a_record_that_is_made_anew_has_nothing_of_the_one_before(store: Store) -> None:
    put(store, PAINTED)

    def again(tx: Any) -> None:
        assert tx.get(CartOne, "a") is not None
        tx.delete(CartOne, "a")
        tx.put(CartOne(id="a", load_kg=1.0))

    store.transact(again)
    assert store.get(PaintedCart, "a") == PaintedCart(id="a", load_kg=1.0)


def test_a_migration_keeps_what_nobody_knows(store: Store) -> None:
    put(store, PAINTED)
    change(store, CartThree, lambda cart: replace(cart, owners=("ada",)))

    class PaintedThree(CartThree, frozen=True, kw_only=True):
        colour: str = ""

    found = store.get(PaintedThree, "a")
    assert found is not None
    assert (found.colour, found.load_g, found.owners) == ("red", 1000, ("ada",))
