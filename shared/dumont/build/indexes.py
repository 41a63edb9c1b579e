"""What Firestore must index, worked out from the queries that the code makes: the composite indexes that it will not
make by itself, and those that it would make and that no query needs.

https://cloud.google.com/firestore/docs/query-data/index-overview: conditions of equality alone (`in` counts as such)
are served by merging the indexes that each field has by itself; a range or an order beside them needs an index of them
all, with the ordered field last.
"""

from __future__ import annotations

import ast
import enum
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dumont import queries
from dumont.domain.collections import RECORDS
from dumont.ports import Query

PACKAGE = Path(queries.__file__).parent
LEFT_OUT = ("adapters", "build", "cli", "local")
"""What of the package makes no query in the cloud."""
EXPIRES = "expires_at"
"""The field by which Firestore lets a record go, of those that have one."""
_RECORDS = {record.__name__: record for record in RECORDS}


class Use(msgspec.Struct, frozen=True, order=True):
    """One function of `queries`, asked of one collection."""

    collection: str
    query: str


class IndexedField(msgspec.Struct, frozen=True, order=True):
    """A part of an index; `order` is ASCENDING or DESCENDING."""

    path: str
    order: str = "ASCENDING"


class Index(msgspec.Struct, frozen=True, order=True):
    """A composite index."""

    collection: str
    fields: tuple[IndexedField, ...]


class Exemption(msgspec.Struct, frozen=True, order=True):
    """A field ("*": all) of a collection that is not to be indexed by itself."""

    collection: str
    field: str


def uses() -> frozenset[Use]:
    """Every query that the code makes, with the collection that it makes it of."""
    files = (f for f in PACKAGE.rglob("*.py") if f.relative_to(PACKAGE).parts[0] not in LEFT_OUT)
    texts = (file.read_text(encoding="utf-8") for file in files)
    return frozenset(use for text in texts if "queries." in text for use in _uses_in(ast.parse(text)))


def sample(name: str) -> Query:
    """A query as the named function of `queries` makes it, of whatever values."""
    function = getattr(queries, name)
    hints = typing.get_type_hints(function)
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is inspect.Parameter.empty]
    made = function(*(_some(hints[parameter.name]) for parameter in needed))
    if not isinstance(made, Query):
        raise TypeError(f"queries.{name} makes no query")
    return made


def composite(collection: str, query: Query) -> Index | None:
    """The composite index that a query needs, if it needs one."""
    equal = sorted({where.field for where in query.where if where.op in ("==", "in")})
    ordered = _ordered_by(query)
    if ordered is None or not (equal := [field for field in equal if field != ordered.path]):
        return None
    return Index(collection, (*(IndexedField(field) for field in equal), ordered))


def needed(found: frozenset[Use]) -> list[Index]:
    """The composite indexes of all queries."""
    return sorted({index for use in found if (index := composite(use.collection, sample(use.query)))})


def exemptions(found: frozenset[Use]) -> list[Exemption]:
    """Where deadlines are spread over shards, the index that Firestore makes of the deadline alone must go: a field
    that only grows takes 500 writes a second at most in an index that begins with it. With it go all others of that
    collection, where no query needs any: each heartbeat would write some forty."""
    single: dict[str, set[str]] = {}
    for use in found:
        query = sample(use.query)
        if composite(use.collection, query) is None:
            single.setdefault(use.collection, set()).update(_fields(query))
    sharded = {index.collection: index for index in needed(found) if index.fields[0].path == "shard"}
    made = {
        Exemption(collection, index.fields[-1].path if single.get(collection) else "*")
        for collection, index in sharded.items()
        if index.fields[-1].path not in single.get(collection, set())
    }
    return sorted(made)


def expiring() -> list[str]:
    """The collections whose records end by themselves."""
    return sorted(record.collection for record in RECORDS if EXPIRES in record.__struct_fields__)


def _ordered_by(query: Query) -> IndexedField | None:
    field = query.order_by or next((where.field for where in query.where if where.op == "<="), None)
    return IndexedField(field, "DESCENDING" if query.descending else "ASCENDING") if field else None


def _fields(query: Query) -> set[str]:
    ordered = _ordered_by(query)
    return {where.field for where in query.where} | ({ordered.path} if ordered else set())


def _some(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    return ("x",) if typing.get_origin(kind) is tuple else kind(1)


def _uses_in(tree: ast.Module) -> Iterator[Use]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        assigned: dict[str, set[str]] = {}
        for part in ast.walk(function):
            if isinstance(part, ast.Assign):
                for target in part.targets:
                    if isinstance(target, ast.Name):
                        assigned.setdefault(target.id, set()).update(_made_in(part.value))
        everywhere = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in _RECORDS}
        for part in ast.walk(function):
            if not (isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "find"):
                continue
            if len(part.args) != 2:
                continue
            kind, query = part.args
            made = _made_in(query) or assigned.get(query.id if isinstance(query, ast.Name) else "", set())
            # A kind that is a variable stands for any that the function names and that has what is asked for.
            kinds = {kind.id} if isinstance(kind, ast.Name) and kind.id in _RECORDS else everywhere
            yield from (
                Use(_RECORDS[kind].collection, name)
                for kind in kinds
                for name in made
                if _fields(sample(name)) <= set(_RECORDS[kind].__struct_fields__)
            )


def _made_in(node: ast.AST) -> set[str]:
    """The functions of `queries` that are called within."""
    return {
        part.func.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and isinstance(part.func.value, ast.Name)
        and part.func.value.id == "queries"
    }
