"""What is sent, where that is more than one struct: a machine's fields beside its name, a template's, a job's."""

from __future__ import annotations

from typing import Any

import msgspec

from dumont.domain.records import MachineSpec
from dumont.edge.advising import TemplateRequest
from dumont.edge.jobs import SET_BY_THE_JOB, JobRequest
from dumont.edge.requests import MachineName


def _fields(of: type[msgspec.Struct], *, without: tuple[str, ...] = ()) -> list[Any]:
    """A struct's fields, by the names that they have in JSON."""
    return [
        (field.encode_name, field.type) if field.required else (field.encode_name, field.type, field.default)
        for field in msgspec.structs.fields(of)
        if field.encode_name not in without
    ]


def _body(name: str, doc: str, fields: list[Any]) -> Any:
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": doc})


ProvisionRequest = _body(
    "ProvisionRequest",
    "The machine to rent: its name, and the fields of `MachineSpec`.",
    [("name", MachineName), *_fields(MachineSpec)],
)
TemplatedRequest = _body(
    "TemplatedRequest",
    "The machine to rent, of a template: what is said besides wins over what the template would fill in.",
    [("name", MachineName), *_fields(TemplateRequest), *_fields(MachineSpec)],
)
JobWish = _body(
    "JobRequest",
    "A command, and the machine to rent for it: the fields of `MachineSpec`, less those that a job sets itself.",
    [*_fields(JobRequest), *_fields(MachineSpec, without=SET_BY_THE_JOB)],
)
