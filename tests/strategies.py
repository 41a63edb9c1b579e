"""Hypothesis strategies for whatever msgspec type: any record that may be stored, made from its type alone."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

INT64 = 2**63


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type, within the bounds that its annotations state."""
    return _of_info(inspect.type_info(kind))


def _of_info(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.Metadata():
            return _of_info(info.type)
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(
                -INT64 if info.ge is None else info.ge,
                INT64 - 1 if info.le is None else info.le,
            )
        case inspect.FloatType():
            return st.floats(
                min_value=info.gt if info.ge is None else info.ge,
                max_value=info.lt if info.le is None else info.le,
                exclude_min=info.gt is not None,
                exclude_max=info.lt is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case inspect.StrType() if info.pattern is not None:
            return st.from_regex(info.pattern, fullmatch=True)
        case inspect.StrType():
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 30, 30))
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(info.cls)
        case inspect.VarTupleType():
            return st.lists(_of_info(info.item_type), max_size=min(info.max_length or 3, 3)).map(tuple)
        case inspect.ListType():
            return st.lists(_of_info(info.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(_of_info(info.key_type), _of_info(info.value_type), max_size=3)
        case inspect.TupleType():
            return st.tuples(*[_of_info(item) for item in info.item_types])
        case inspect.UnionType():
            return st.one_of([_of_info(member) for member in info.types])
        case inspect.StructType():
            return _of_struct(info)
    raise NotImplementedError(f"no strategy for {info}")


def _of_struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    required = {field.name: _of_info(field.type) for field in info.fields if field.required}
    optional = {field.name: _of_info(field.type) for field in info.fields if not field.required}
    optional.pop("schema_version", None)  # ours to set: one that we do not know is refused
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: _made(info.cls, values))


def _made(kind: type[Any], values: dict[str, Any]) -> Any:
    made = kind(**values)
    assert isinstance(made, msgspec.Struct)
    return made
