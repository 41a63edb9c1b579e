"""Fields of a later version of Dumont, in documents that this one reads and writes: left out, and kept.

While a deployment goes on, versions run side by side. A later one may have written fields that this one does not know;
who reads such a record and writes it back must not lose them.

The rule: on the record itself an unknown field stays, whatever else changes. Within a value that it holds (its spec, a
step, an offer) it stays as long as what we know of that value is as it was read: a value that we made is ours, and
what was said of the one before does not hold for it. So a field that must outlive such a change belongs to the record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

Document = dict[str, Any]


def pruned(document: Any, kind: Any) -> Any:
    """The document without the fields that the structs in its type do not have."""
    return _pruned(document, _type_info(kind))


def kept(document: Document, over: Document, kind: Any) -> Document:
    """The document of a record, with what is unknown to us in the one that it takes the place of."""
    fields, nested = _fields(kind)
    for name in over.keys() - fields:
        document[name] = over[name]
    for name, has_unknown in _checks(kind):
        old = over.get(name)
        if old is not None and has_unknown(old) and name in document:
            document[name] = _kept(document[name], old, nested[name])
    return document


@functools.cache
def _type_info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


@functools.cache
def _fields(kind: Any) -> tuple[frozenset[str], dict[str, inspect.Type]]:
    """The names that a struct has in documents; and of those whose values have structs in them, their types."""
    info = _type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    nested = {field.encode_name: field.type for field in info.fields if _holds_structs(field.type)}
    return frozenset(field.encode_name for field in info.fields), nested


def _holds_structs(info: inspect.Type) -> bool:
    if isinstance(info, inspect.StructType):
        return True
    if isinstance(info, inspect.Metadata):
        return _holds_structs(info.type)
    if isinstance(info, inspect.UnionType):
        return any(_holds_structs(member) for member in info.types)
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return _holds_structs(info.item_type)
    if isinstance(info, inspect.TupleType):
        return any(_holds_structs(item) for item in info.item_types)
    return isinstance(info, inspect.DictType) and _holds_structs(info.value_type)


def _parts(value: Any, info: inspect.Type) -> list[tuple[Any, Any, inspect.Type]]:
    """What a value is made of: key or index, part, type. Of a struct only what may hold structs itself."""
    if isinstance(info, inspect.StructType) and isinstance(value, dict):
        return [(name, value[name], part) for name, part in _fields(info.cls)[1].items() if name in value]
    if isinstance(info, inspect.ListType | inspect.VarTupleType) and isinstance(value, list | tuple):
        return [(index, item, info.item_type) for index, item in enumerate(value)]
    if isinstance(info, inspect.TupleType) and isinstance(value, list | tuple):
        return [(n, item, part) for n, (item, part) in enumerate(zip(value, info.item_types, strict=False))]
    if isinstance(info, inspect.DictType) and isinstance(value, dict):
        return [(name, item, info.value_type) for name, item in value.items()]
    return []


def _chosen(value: Any, info: inspect.Type) -> inspect.Type:
    """The type that a value is of, of those that it may be: msgspec allows one struct, one array and one mapping at
    most in a union, so the value's shape chooses."""
    if isinstance(info, inspect.Metadata):
        return _chosen(value, info.type)
    if isinstance(info, inspect.UnionType):
        arrays = inspect.ListType | inspect.VarTupleType | inspect.TupleType
        shapes = inspect.StructType | inspect.DictType if isinstance(value, dict) else arrays
        return next((_chosen(value, member) for member in info.types if isinstance(member, shapes)), info)
    return info


# --- Whether there is anything to keep: asked at each write, so made ready once for each type -----------------------

Check = Callable[[Any], bool]


@functools.cache
def _checks(kind: Any) -> tuple[tuple[str, Check], ...]:
    """Of a struct's fields whose values may hold structs: whether such a value has a field that we do not know."""
    return tuple((name, _check(info)) for name, info in _fields(kind)[1].items())


def _check(info: inspect.Type) -> Check:
    if isinstance(info, inspect.Metadata):
        return _check(info.type)
    if isinstance(info, inspect.StructType):
        return _check_of_struct(info.cls)
    if isinstance(info, inspect.UnionType):
        members = {_SHAPES[type(member)]: _check(member) for member in info.types if _holds_structs(member)}
        return lambda value: (member := members.get(type(value))) is not None and member(value)
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        of_item = _check(info.item_type)
        return lambda value: type(value) is list and any(map(of_item, value))
    if isinstance(info, inspect.DictType):
        of_value = _check(info.value_type)
        return lambda value: type(value) is dict and any(map(of_value, value.values()))
    return lambda value: _has_unknown_parts(value, info)


_SHAPES: dict[type[inspect.Type], type] = {
    inspect.StructType: dict,
    inspect.DictType: dict,
    inspect.ListType: list,
    inspect.VarTupleType: list,
    inspect.TupleType: list,
}


def _check_of_struct(kind: Any) -> Check:
    fields = _fields(kind)[0]

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        if not fields.issuperset(value):
            return True
        for name, has_unknown in _checks(kind):
            part = value.get(name)
            if part is not None and has_unknown(part):
                return True
        return False

    return check


def _has_unknown_parts(value: Any, info: inspect.Type) -> bool:
    return any(part is not None and _check(part_info)(part) for _, part, part_info in _parts(value, info))


# --- What is kept -------------------------------------------------------------------------------------------------


def _kept(new: Any, old: Any, info: inspect.Type) -> Any:
    """The new value, with what is unknown in those parts of the old one that it still has."""
    info = _chosen(old, info)
    if isinstance(info, inspect.StructType) and isinstance(old, dict) and isinstance(new, dict):
        if _known(old, info.cls) == new:
            return old
        parts = {name: (part, part_info) for name, part, part_info in _parts(old, info)}
        return {name: _kept(item, *parts[name]) if name in parts else item for name, item in new.items()}
    if isinstance(info, inspect.DictType) and isinstance(old, dict) and isinstance(new, dict):
        return {name: _kept(item, old[name], info.value_type) if name in old else item for name, item in new.items()}
    if isinstance(info, inspect.ListType | inspect.VarTupleType) and isinstance(new, list | tuple):
        return _kept_items(list(new), list(old), info.item_type)
    return new


def _kept_items(new: list[Any], old: list[Any], info: inspect.Type) -> list[Any]:
    """Lists grow at their end and are cut at their beginning: an item is looked for where it was, then anywhere."""
    made = []
    for index, item in enumerate(new):
        places = [*range(index, len(old)), *range(min(index, len(old)))]
        same = (old[place] for place in places if _known_item(old[place], info) == item)
        made.append(next(same, item))
    return made


def _known_item(value: Any, info: inspect.Type) -> Any:
    chosen = _chosen(value, info)
    return _known(value, chosen.cls) if isinstance(chosen, inspect.StructType) else value


def _known(value: Any, kind: Any) -> Any:
    """A struct's document as we would write it."""
    try:
        return msgspec.to_builtins(msgspec.convert(pruned(value, kind), kind))
    except msgspec.ValidationError:
        return None


def _pruned(value: Any, info: inspect.Type) -> Any:
    """The value without the fields that the structs in its type do not have."""
    if value is None:
        return None
    info = _chosen(value, info)
    if isinstance(info, inspect.StructType) and isinstance(value, dict):
        fields = _fields(info.cls)[0]
        value = {name: item for name, item in value.items() if name in fields}
    parts = _parts(value, info)
    if not parts:
        return value
    if isinstance(value, dict):
        return value | {name: _pruned(part, part_info) for name, part, part_info in parts}
    return [_pruned(part, part_info) for _, part, part_info in parts]
