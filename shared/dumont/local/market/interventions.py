"""What tests do to a market from outside: let faults befall instances, and let those that are cut off come back."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from dumont.local.market import misfortunes
from dumont.local.market.faults import BOOT_KINDS, Fault
from dumont.local.market.refusals import Refused

if TYPE_CHECKING:
    from dumont.local.market.core import Market
    from dumont.local.market.instance import Instance


def inject(market: Market, fault: Fault, now: float) -> list[int]:
    """Let a fault befall the instances that it names now, if it is of that kind; otherwise let it wait for its case.

    Answers with the ids of those befallen: of several that bear its label, the `count` oldest. Raises `Refused` (404)
    if it names none that exists.
    """
    named = fault.instance_id is not None or fault.label is not None
    if fault.kind not in BOOT_KINDS or fault.at_create or not named:
        market.faults.add(fault)
        return []
    now = market.settle(now)
    befallen = find(market.live(now), fault.instance_id, fault.label)[: fault.count]
    for instance in befallen:
        misfortunes.befall(instance, fault, now + (fault.after_seconds or 0.0))
    return [instance.id for instance in befallen]


def mend(market: Market, instance_id: int | None, label: str | None, now: float) -> list[int]:
    """Let what is cut off or offline come back now, machines of destroyed instances too. Answers with the ids.

    Raises `Refused` (404) if there is none of that id or label.
    """
    now = market.settle(now)
    mended = find([*market.live(now), *market.unreached(now)], instance_id, label)
    for instance in mended:
        misfortunes.mend(instance, now)
    return [instance.id for instance in mended]


def find(instances: list[Instance], instance_id: int | None, label: str | None) -> list[Instance]:
    """Those of an id and a label, in which "*" stands for anything. Raises `Refused` (404) if there is none."""
    found = [
        instance
        for instance in instances
        if instance_id in (None, instance.id) and (label is None or fnmatch.fnmatchcase(instance.label or "", label))
    ]
    if not found:
        raise Refused(404, "no_such_instance", f"No instance has the id {instance_id} and the label {label}.")
    return found
