"""Records as each version of Dumont wrote them: `tests/data/records/COLLECTION.VERSION.json`, a file for each schema
version of each kind, with its shape and some documents. Files of earlier versions stay for ever.

`python -m tests.golden_records` notes new kinds, and fields that joined with a default. It refuses any other change:
that needs the next `schema_version` and a migration (`dumont.domain.record`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import inspect

from dumont.adapters import encoding
from dumont.domain.collections import RECORDS
from dumont.domain.records import Record

FOLDER = Path(__file__).parent / "data" / "records"
WHAT_TO_DO = (
    "records that are stored would be read wrongly, or not at all. Give the kind the next `schema_version` and a "
    "migration from the one before (see domain/record.py), then run `python -m tests.golden_records`"
)
NOTE_IT = "a field joined, which is well: note it by `python -m tests.golden_records`"

UNDONE: dict[type[Record], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Of each kind with migrations the last of them backwards: so the simulation can write as the last version did."""
KINDS_WITHOUT_PAST: frozenset[str] = frozenset()
"""Collections whose last version cannot be made of this one's documents; why, beside it."""

Shape = dict[str, Any]


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a kind was: the JSON Schema of it, by struct, and documents that were stored then."""

    kind: str
    schema_version: int
    shape: Shape
    documents: list[dict[str, Any]]


def file_of(kind: type[Record], version: int) -> Path:
    """Where a version of a kind is noted."""
    return FOLDER / f"{kind.collection}.{version}.json"


def version_of(kind: type[Record]) -> int:
    """The schema version that is written now."""
    return next(int(field.default) for field in msgspec.structs.fields(kind) if field.name == "schema_version")


def noted(kind: type[Record], version: int) -> Golden | None:
    """What is noted of a version of a kind."""
    file = file_of(kind, version)
    return msgspec.json.decode(file.read_bytes(), type=Golden) if file.is_file() else None


def shape_of(kind: type[Record]) -> Shape:
    """The JSON Schema of a kind and of each struct and enumeration in it, by name, without words."""
    _, components = msgspec.json.schema_components([kind])
    return cast("Shape", _without_words(components))


def _without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        plain = {k: v for k, v in schema.items() if not (k in ("description", "title") and isinstance(v, str))}
        return {k: _without_words(v) for k, v in plain.items() if k not in ("examples", "default")}
    return [_without_words(item) for item in schema] if isinstance(schema, list | tuple) else schema


# --- What has changed ---------------------------------------------------------------------------------------------


def breaks(old: Shape, new: Shape) -> list[str]:
    """What of a change of shape makes records unreadable, or read as something else; [] if nothing does."""
    found = []
    for name, before in old.items():
        now = new.get(name)
        if now is None:
            continue  # whatever referred to it is found there
        if "enum" in before:
            found += [f"{name}: {value!r} is gone" for value in before["enum"] if value not in now.get("enum", ())]
            continue
        fields = now.get("properties", {})
        for field, schema in before.get("properties", {}).items():
            if field not in fields:
                found.append(f"{name}.{field} is gone")
            elif not _reads(fields[field], schema):
                found.append(f"{name}.{field} was {json.dumps(schema)} and is {json.dumps(fields[field])}")
        required = set(now.get("required", ())) - set(before.get("required", ()))
        found += [f"{name}.{field} has no default" for field in sorted(required)]
    return found


def _reads(new: Any, old: Any) -> bool:
    """Whether all that the old schema let through is read by the new one."""
    if new == old:
        return True
    if "anyOf" in new:
        return all(any(_reads(member, was) for member in new["anyOf"]) for was in old.get("anyOf", [old]))
    if "anyOf" in old or new.keys() - old.keys():
        return False
    if "enum" in new and "enum" in old:
        return set(old["enum"]) <= set(new["enum"])
    rest = [key for key in new if key not in _BOUNDS and key != "items"]
    wider = all(key not in new or sign * new[key] >= sign * old[key] for key, sign in _BOUNDS.items())
    items = _reads(new["items"], old["items"]) if isinstance(new.get("items"), dict) else True
    return wider and items and all(new[key] == old[key] for key in rest)


_BOUNDS = {
    "maximum": 1, "exclusiveMaximum": 1, "maxLength": 1, "maxItems": 1,
    "minimum": -1, "exclusiveMinimum": -1, "minLength": -1, "minItems": -1,
}  # fmt: skip


# --- Documents ----------------------------------------------------------------------------------------------------


def as_the_last_version_wrote(kind: type[Record], document: dict[str, Any]) -> dict[str, Any]:
    """A document of ours as the last version would have written it. The first version wrote none in the beginning."""
    if kind in UNDONE:
        return UNDONE[kind](dict(document))
    return {name: value for name, value in document.items() if name != "schema_version"}


def full(kind: type[Record]) -> dict[str, Any]:
    """A document with something in every field, also in those that hardly any record has."""
    return encoding.to_document(_filled(inspect.type_info(kind)))


def _filled(info: Any) -> Any:
    match info:
        case inspect.Metadata():
            return _filled(info.type)
        case inspect.StructType():
            return info.cls(**{f.name: _field(f) for f in info.fields if f.name != "schema_version"})
        case inspect.UnionType():
            return _filled(next(member for member in info.types if not isinstance(member, inspect.NoneType)))
        case inspect.VarTupleType():
            return (_filled(info.item_type),)
        case inspect.ListType():
            return [_filled(info.item_type)]
        case inspect.TupleType():
            return tuple(_filled(item) for item in info.item_types)
        case inspect.DictType():
            return {_filled(info.key_type): _filled(info.value_type)}
        case inspect.EnumType():
            return list(info.cls)[-1]
        case inspect.LiteralType():
            return info.values[-1]
        case inspect.BoolType():
            return True
        case inspect.IntType() | inspect.FloatType():
            number = 3 if isinstance(info, inspect.IntType) else 2.5
            least = info.ge if info.ge is not None else info.gt
            most = info.le if info.le is not None else info.lt
            if least is not None and number <= least:
                number = least + 1
            return min(number, most) if most is not None else number
        case inspect.StrType():
            return "something".ljust(info.min_length or 0, "g")[: info.max_length]
    raise NotImplementedError(f"no value is known for {info}")


def _field(field: inspect.Field) -> Any:
    info = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
    patterned = isinstance(info, inspect.StrType) and info.pattern is not None
    return field.default if patterned and not field.required else _filled(field.type)


# --- Noting -------------------------------------------------------------------------------------------------------


def note(kind: type[Record], documents: list[dict[str, Any]]) -> str | None:
    """Note a kind as it is now; what forbids it, if something does."""
    version, shape = version_of(kind), shape_of(kind)
    before = noted(kind, version)
    if before is not None and (broken := breaks(before.shape, shape)):
        return f"{kind.__name__}: {'; '.join(broken)}: {WHAT_TO_DO}"
    kept = before.documents if before is not None else []
    kept += [document for document in (*documents, full(kind)) if document not in kept]
    golden = Golden(kind=kind.__name__, schema_version=version, shape=shape, documents=kept)
    text = json.dumps(msgspec.to_builtins(golden), indent=1, ensure_ascii=False) + "\n"
    FOLDER.mkdir(parents=True, exist_ok=True)
    file_of(kind, version).write_text(text, encoding="utf-8")
    return None


def main() -> int:
    """Note every kind whose shape is new, or has grown."""
    refused = [
        wrong
        for kind in RECORDS
        if (known := noted(kind, version_of(kind))) is None or known.shape != shape_of(kind)
        if (wrong := note(kind, [])) is not None
    ]
    sys.stdout.write("".join(f"{wrong}\n" for wrong in refused))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
