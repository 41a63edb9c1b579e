"""What faults do to an instance."""

from __future__ import annotations

import math

from dumont.local.market import lifecycle
from dumont.local.market.faults import Fault
from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import OFFLINE, RUNNING, STOPPED, Phase, Timeline

OUTBID = "This instance was outbid; raise the bid to resume it."
RESOURCES_UNAVAILABLE = "Required resources are currently unavailable, state change queued."
UNPAID = "Instance stopped: the account is out of credit."
EXITED = "container exited with code 137"
TERM_OVER = "Instance stopped: the rental contract has ended."


def befall_boot(instance: Instance, fault: Fault, boot_seconds: float) -> None:
    """Plan a fault into an instance that was just created; `after_seconds` counts from when it runs."""
    created = instance.created_at
    if fault.kind == "boot_never_ends":
        instance.timeline = Timeline(lifecycle.endless_boot(created, boot_seconds))
    elif fault.kind == "oci_error":
        instance.timeline = Timeline(lifecycle.broken_boot(created, boot_seconds))
    elif fault.kind == "bad_image":
        instance.timeline = Timeline(lifecycle.imageless_boot(created, boot_seconds, instance.order.image))
    else:
        runs_from = instance.timeline.first(RUNNING)
        befall(instance, fault, (created if runs_from is None else runs_from) + (fault.after_seconds or 0.0))


def befall(instance: Instance, fault: Fault, moment: float) -> None:
    """Let a fault befall an instance at a moment, which may lie ahead. One that does not run has no GPU to lose."""
    phase = instance.phase(moment)
    timeline = instance.timeline
    if fault.kind == "ssh_dead":
        instance.ssh_dead_from = moment
    elif fault.kind == "no_gpu":
        instance.no_gpu_from = moment
    elif fault.kind == "wrong_gpu":
        instance.shown_gpu = fault.gpu
    elif fault.kind == "offline":
        until = None if fault.seconds is None else moment + fault.seconds
        timeline.interrupt(moment, phase._replace(actual=OFFLINE, message=""), until)
        instance.outlives_destroy |= fault.outlives_destroy
    elif fault.kind == "network_cut":
        instance.cuts.append((moment, math.inf if fault.seconds is None else moment + fault.seconds))
        instance.outlives_destroy |= fault.outlives_destroy
    elif fault.kind == "hung":
        instance.kills.append(moment)
        if fault.seconds is not None and phase.running:
            noticed = moment + fault.seconds
            timeline.interrupt(noticed, phase._replace(actual=OFFLINE, message=""), None)
    elif fault.kind == "dies":
        if phase.running:
            timeline.replan(moment, Phase(moment, "exited", RUNNING, RUNNING, EXITED))
    elif fault.kind == "bid_lost":
        if phase.intended == RUNNING:
            timeline.replan(moment, Phase(moment, "exited", STOPPED, STOPPED, OUTBID))
    elif fault.kind == "oci_error":
        timeline.replan(moment, Phase(moment, "created", STOPPED, RUNNING, lifecycle.OCI_ERROR))
    elif not phase.running:
        timeline.replan(moment, Phase(moment, "loading", RUNNING, RUNNING))


def mend(instance: Instance, now: float) -> None:
    """End what cuts an instance off at this moment. What its host missed meanwhile, a stop above all, is done now."""
    instance.cuts = [(start, min(end, now)) for start, end in instance.cuts if start < now]
    phase = instance.phase(now)
    if phase.actual != OFFLINE:
        return
    before = next(p for p in reversed(instance.timeline.all()) if p.at <= now and p.actual != OFFLINE)
    if phase.intended == STOPPED:
        back = Phase(now, "exited", STOPPED, STOPPED)
    elif before.running and instance.container_since(now) is None:
        back = Phase(now, "exited", RUNNING, RUNNING, EXITED)
    elif before.actual in (None, "loading"):
        back = before._replace(at=now, actual=RUNNING, cur=RUNNING)
    else:
        back = before._replace(at=now)
    instance.timeline.replan(now, back)


def exit_by_itself(instance: Instance, moment: float) -> None:
    """Its processes ended without the market: it is exited, and of a host that is offline this is seen afterwards."""
    exited = Phase(moment, "exited", RUNNING, RUNNING, EXITED)
    instance.kills.append(moment)
    if instance.phase(moment).actual == OFFLINE:
        instance.timeline.come_back(moment, exited)
    else:
        befall(instance, Fault(kind="dies"), moment)


def stop_unpaid(instance: Instance, moment: float) -> None:
    """Stop an instance because the credit is used up."""
    if instance.exists(moment) and instance.phase(moment).intended == RUNNING:
        instance.timeline.replan(moment, Phase(moment, "exited", STOPPED, STOPPED, UNPAID))


def end_term(instance: Instance, moment: float, now: float) -> None:
    """Stop an instance at the moment when its host takes the machine back, if that has come."""
    if now >= moment and instance.phase(moment).intended == RUNNING:
        instance.timeline.replan(moment, Phase(moment, "exited", STOPPED, STOPPED, TERM_OVER))
