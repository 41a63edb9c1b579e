"""The simulated market itself: a pure state machine without I/O, threads or a clock of its own.

Every method takes `now`, in seconds since the epoch, which must not go back by more than callers' own jitter (an
earlier one counts as the latest seen). The same seed and the same calls give the same market. To simulate:

    market = Market(seed=7, opened_at=0.0)
    offers = market.search({"gpu_name": {"eq": "RTX 4090"}}, now=0.0)
    instance = market.create(offers[0]["id"], {"image": "pytorch/pytorch", "disk": 20, "label": "x"}, now=0.0)
    market.instance(instance.id, now=80.0).phase(80.0).actual     # None, "loading", "running", …
    market.next_change(80.0)                                      # when anything changes by itself next
    market.destroy(instance.id, now=90.0)
    market.bill(90.0).total_usd; market.live(90.0)

Requests that the market turns down raise `Refused`. `dumont.local.market.api.Api` puts Vast.ai's HTTP API around it,
just as pure, with the faults that befall requests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dumont.local.market import billing, interventions, lifecycle, misfortunes
from dumont.local.market.billing import Bill
from dumont.local.market.catalogue import CATALOGUES, Ask, catalogue
from dumont.local.market.faults import (
    BOOT_KINDS,
    CREATE_KINDS,
    DESTROY_KINDS,
    START_KINDS,
    Fault,
    FaultRate,
    Faults,
)
from dumont.local.market.instance import LABEL_LENGTH_MOST, Instance, read_order
from dumont.local.market.lifecycle import OFFLINE, RUNNING, STOPPED, Durations, Phase, Timeline
from dumont.local.market.offers import Offers
from dumont.local.market.refusals import Refused, invalid_args, no_such_instance, offer_gone, out_of_credit
from dumont.local.market.ssh_keys import SshKeys

FIRST_INSTANCE_ID = 30_000_001
WITHDRAWN_SECONDS = 300.0
"""How long an offer that somebody else took stays away."""


class Market:
    """Offers, and the account's instances on them."""

    def __init__(
        self,
        *,
        seed: int = 0,
        opened_at: float = 0.0,
        asks: Sequence[Ask] | None = None,
        time_scale: float = 1.0,
        durations: Durations | None = None,
        credit_usd: float = 100.0,
        fault_rates: Iterable[FaultRate] = (),
        real_machines: bool = False,
        first_instance_id: int = FIRST_INSTANCE_ID,
    ) -> None:
        """A market that opens at `opened_at`. `time_scale` multiplies how long boots, starts and stops take.

        With `real_machines`, somebody says by `place` where each instance's SSH server answers; otherwise instances
        have addresses at which there is nothing.
        """
        self.seed = seed
        self.opened_at = opened_at
        self.offers = Offers(catalogue(seed % CATALOGUES) if asks is None else asks, opened_at)
        self.faults = Faults(fault_rates)
        self.ssh_keys = SshKeys()
        self._real_machines = real_machines
        self._first_instance_id = first_instance_id
        self._time_scale = time_scale
        self._durations = durations or Durations()
        self._credit_usd = credit_usd
        self._instances: dict[int, Instance] = {}
        self._open: dict[int, Instance] = {}
        self._unreached: dict[int, Instance] = {}
        self._rented_times: dict[int, int] = {}
        self._settled_until = opened_at
        self._rng = random.Random(f"market/{seed}")

    # --- Offers ---------------------------------------------------------------------------------------------------

    def search(self, query: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
        """Offers as Vast.ai answers a search; see `Offers.search`."""
        now = self.settle(now)
        return self.offers.search(query, self._rented(), now)

    def _rented(self) -> set[int]:
        return {instance.ask.id for instance in self._open.values()}

    # --- Instances ------------------------------------------------------------------------------------------------

    def create(self, ask_id: int, body: Mapping[str, Any], now: float) -> Instance:
        """Rent an offer; `body` as Vast.ai's API has it. Raises `Refused`; `extra["new_contract"]` names an instance
        that exists all the same.
        """
        now = self.settle(now)
        ask = self.offers.get(ask_id)
        if ask is None:
            raise offer_gone(ask_id, 404)
        label = body.get("label") if isinstance(body.get("label"), str) else None
        fault = self.faults.take(CREATE_KINDS, rng=self._rng, ask_id=ask_id, machine_id=ask.machine_id, label=label)
        if self._credit_usd <= 0 or (fault and fault.kind == "out_of_credit"):
            raise out_of_credit()
        if fault and fault.kind == "offer_gone":
            self.offers.withdraw(ask_id, now + (fault.seconds or WITHDRAWN_SECONDS))
            raise offer_gone(ask_id, fault.status or 410)
        if not self.offers.rentable(ask, self._rented(), now):
            raise offer_gone(ask_id)
        instance = self._rent(ask, body, now)
        bid = instance.bid_usd_per_hour
        if (fault and fault.kind == "bid_too_low") or (bid is not None and bid < ask.min_bid_usd_per_hour):
            instance.timeline = Timeline([Phase(now, STOPPED, STOPPED, STOPPED, misfortunes.OUTBID)])
            least = ask.min_bid_usd_per_hour
            raise Refused(
                400, "bid_too_low", f"Your bid is below {least:.4f}.", new_contract=instance.id, ask_id=ask_id
            )
        return instance

    def _rent(self, ask: Ask, body: Mapping[str, Any], now: float) -> Instance:
        order = read_order(body, ask)
        times = self._rented_times[ask.id] = self._rented_times.get(ask.id, 0) + 1
        # Drawn for the offer and how often it was rented, so that creates that race draw the same in any order.
        rng = random.Random(f"{self.seed}/{ask.id}/{times}")
        seconds = self._durations.boot(rng) * self._time_scale
        ends = math.isfinite(seconds)
        if not ends:
            seconds = lifecycle.TYPICAL_BOOT_SECONDS * self._time_scale
        booting = lifecycle.boot_phases(now, seconds, order.image, order.runtype.split()[0])
        instance_id = self._first_instance_id + len(self._instances)
        nowhere = (f"ssh{instance_id % 9 + 1}.vast.ai", 10_000 + instance_id % 20_000)
        instance = Instance(
            id=instance_id,
            ask=ask,
            order=order,
            label=order.label,
            created_at=now,
            timeline=Timeline(booting if ends else lifecycle.endless_boot(now, seconds)),
            container_key=f"{rng.getrandbits(256):064x}",
            gpu_usd_per_hour=ask.gpu_usd_per_hour if order.bid_usd_per_hour is None else order.bid_usd_per_hour,
            bid_usd_per_hour=order.bid_usd_per_hour,
            keys=self.ssh_keys.current(),
            nowhere=None if self._real_machines else nowhere,
            settled_until=now,
        )
        self._instances[instance.id] = self._open[instance.id] = instance
        if order.stopped:
            instance.timeline = Timeline([Phase(now, STOPPED, STOPPED, STOPPED)])
        for kind in sorted(BOOT_KINDS):
            fault = self.faults.take(
                frozenset({kind}),
                rng=rng,
                ask_id=ask.id,
                machine_id=ask.machine_id,
                instance_id=instance.id,
                label=instance.label,
            )
            if fault is not None:
                misfortunes.befall_boot(instance, fault, seconds)
        return instance

    def instance(self, instance_id: int, now: float) -> Instance:
        """An instance that exists. Raises `Refused` (404) for one that does not, or no longer."""
        now = self.settle(now)
        found = self._open.get(instance_id)
        if found is None or not found.exists(now):
            raise no_such_instance(instance_id)
        return found

    def live(self, now: float) -> list[Instance]:
        """Every instance that exists, oldest first."""
        now = self.settle(now)
        return [instance for instance in self._open.values() if instance.exists(now)]

    def unreached(self, now: float) -> list[Instance]:
        """Those that are destroyed, and whose processes run on because nobody could tell their machine."""
        now = self.settle(now)
        for instance in [i for i in self._unreached.values() if i.network_works(now)]:
            del self._unreached[instance.id]
        return list(self._unreached.values())

    def ever(self) -> list[Instance]:
        """Every instance that was created, destroyed ones too, oldest first."""
        return list(self._instances.values())

    def start(self, instance_id: int, now: float) -> None:
        """Start a stopped instance; of one that runs or is about to, nothing changes. Raises `Refused`; the status is
        200 if the GPU is taken, and the start is queued.
        """
        instance = self.instance(instance_id, now)
        now, phase = self._settled_until, instance.phase(now)
        if (phase.running and phase.intended == RUNNING) or phase.actual in (None, "loading"):
            return
        if self._credit_usd <= 0:
            raise out_of_credit()
        if phase.actual == OFFLINE:
            instance.timeline.come_back(now, Phase(now, RUNNING, RUNNING, RUNNING))
            instance.timeline.now_says(now, phase._replace(at=now, intended=RUNNING))
            return
        if "OCI" in phase.message:
            instance.timeline.replan(now, phase._replace(at=now, intended=RUNNING))
            return
        bid = instance.bid_usd_per_hour
        seconds = self._durations.start(self._rng) * self._time_scale
        started = Phase(now + seconds, RUNNING, RUNNING, RUNNING, f"success, running {instance.order.image}")
        fault = self.faults.take(
            START_KINDS,
            rng=self._rng,
            ask_id=instance.ask.id,
            machine_id=instance.ask.machine_id,
            instance_id=instance_id,
            label=instance.label,
        )
        if fault is not None or (bid is not None and bid < instance.ask.min_bid_usd_per_hour):
            waiting = Phase(now, "exited", STOPPED, RUNNING, misfortunes.RESOURCES_UNAVAILABLE)
            later = () if fault is None or fault.seconds is None else (started._replace(at=now + fault.seconds),)
            instance.timeline.replan(now, waiting, *later)
            raise Refused(200, "resources_unavailable", misfortunes.RESOURCES_UNAVAILABLE)
        instance.timeline.replan(now, Phase(now, "exited", RUNNING, RUNNING), started)

    def stop(self, instance_id: int, now: float) -> None:
        """Stop an instance, or take back a start that is queued. Its disk goes on billing."""
        instance = self.instance(instance_id, now)
        now, phase = self._settled_until, instance.phase(now)
        stopped = Phase(now, "exited" if instance_id % 2 else STOPPED, STOPPED, STOPPED)
        if phase.actual == OFFLINE:
            instance.timeline.come_back(now, stopped)
            instance.timeline.now_says(now, stopped._replace(actual=OFFLINE))
        elif phase.running:
            seconds = self._durations.stop(self._rng) * self._time_scale
            instance.timeline.replan(now, phase._replace(at=now, intended=STOPPED), stopped._replace(at=now + seconds))
        else:
            instance.timeline.replan(now, stopped)

    def attach_key(self, instance_id: int, public_key: str, now: float) -> int:
        """Let a public key into an instance; answers with the key's id."""
        return self.ssh_keys.attach(self.instance(instance_id, now), public_key)

    def reboot(self, instance_id: int, now: float, *, status: str = "rebooting") -> None:
        """Stop and start the container without giving the GPU up. `recycling` also pulls its image again."""
        instance = self.instance(instance_id, now)
        now, phase = self._settled_until, instance.phase(now)
        if not phase.running:
            raise invalid_args(f"instance {instance_id} is not running")
        draw = self._durations.boot if status == "recycling" else self._durations.start
        back = phase._replace(at=now + draw(self._rng) * self._time_scale)
        instance.timeline.replan(now, Phase(now, status, RUNNING, RUNNING), back)

    def relabel(self, instance_id: int, label: str, now: float) -> None:
        """Give an instance another label."""
        if len(label) > LABEL_LENGTH_MOST:
            raise invalid_args(f"'label' has at most {LABEL_LENGTH_MOST} characters")
        self.instance(instance_id, now).label = label

    def destroy(self, instance_id: int, now: float) -> None:
        """Destroy an instance: it is gone at once, and so is its disk. Raises `Refused` (404) if it is gone already."""
        instance = self.instance(instance_id, now)
        now = self._settled_until
        if instance.destroyed_at is not None:
            return
        fault = self.faults.take(
            DESTROY_KINDS, rng=self._rng, ask_id=instance.ask.id, instance_id=instance_id, label=instance.label
        )
        instance.destroyed_at = now + ((fault.seconds or 0.0) if fault else 0.0)
        self.settle(now)

    def change_bid(self, instance_id: int, price_usd_per_hour: float | None, now: float) -> float:
        """Bid another price, in USD per hour; None bids one that wins. Answers with the bid."""
        instance = self.instance(instance_id, now)
        now, least = self._settled_until, instance.ask.min_bid_usd_per_hour
        if not instance.interruptible:
            raise invalid_args(f"instance {instance_id} is not interruptible")
        price = round(least * 1.1, 4) if price_usd_per_hour is None else price_usd_per_hour
        if not 0.001 <= price <= 128.0:
            raise invalid_args("Please set a bid price >= 0.001.")
        instance.bid_usd_per_hour = instance.gpu_usd_per_hour = price
        if price < least:
            misfortunes.befall(instance, Fault(kind="bid_lost"), now)
        elif instance.phase(now).message == misfortunes.OUTBID:
            self.start(instance_id, now)
        return price

    # --- Money and time -------------------------------------------------------------------------------------------

    def credit_usd(self, now: float) -> float:
        """What the account can still spend. It sinks below zero only by what stopped instances' disks bill."""
        self.settle(now)
        return self._credit_usd

    def set_credit(self, credit_usd: float, now: float) -> None:
        """Put the account's credit at an amount from now on."""
        self.settle(now)
        self._credit_usd = credit_usd

    def bill(self, now: float) -> Bill:
        """What everything has cost by now."""
        self.settle(now)
        lines = tuple(billing.line(instance) for instance in self._instances.values())
        gpu_usd, storage_usd = sum(line.gpu_usd for line in lines), sum(line.storage_usd for line in lines)
        return Bill(
            instances=lines,
            gpu_usd=gpu_usd,
            storage_usd=storage_usd,
            total_usd=gpu_usd + storage_usd,
            credit_usd=self._credit_usd,
        )

    def next_change(self, now: float) -> float | None:
        """The next moment at which an instance changes by itself (credit running out aside); None if none is known."""
        now = max(now, self._settled_until)
        every = [*self._open.values(), *self._unreached.values()]
        moments = [instance.timeline.next_change(now) for instance in every]
        for instance in self._open.values():
            moments += [instance.destroyed_at, instance.ssh_dead_from, instance.no_gpu_from, *instance.kills]
        for instance in every:
            moments += instance.network_changes()
        return min((moment for moment in moments if moment is not None and now < moment < math.inf), default=None)

    def settle(self, now: float) -> float:
        """Bill up to now, stop everything at the moment when credit runs out, drop what is gone. Answers with now."""
        start = self._settled_until
        if now > start and self._open:
            instances = list(self._open.values())
            for instance in instances:
                ends_at = self.offers.ends_at(instance.ask)
                if now >= ends_at:
                    misfortunes.end_term(instance, max(start, ends_at), now)
            # Most calls need no more than this bound to see that the credit lasts.
            most_usd = sum(i.gpu_usd_per_hour + i.storage_usd_per_hour for i in instances) * (now - start) / 3600.0
            if 0 < self._credit_usd <= most_usd:
                moment = billing.exhausted_at(instances, self._credit_usd, start, now)
                if moment is not None:
                    self._credit_usd -= billing.settle(instances, moment)
                    self._credit_usd = min(self._credit_usd, 0.0)
                    for instance in instances:
                        misfortunes.stop_unpaid(instance, moment)
            self._credit_usd -= billing.settle(instances, now)
        self._settled_until = now = max(now, start)
        for instance in [i for i in self._open.values() if i.destroyed_at is not None and i.destroyed_at <= now]:
            del self._open[instance.id]
            if instance.outlives_destroy and not instance.network_works(instance.destroyed_at or now):
                self._unreached[instance.id] = instance
        return now

    # --- Misfortune -----------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, now: float) -> list[int]:
        """Let a fault befall whom it names, or wait for its case; see `interventions.inject`."""
        return interventions.inject(self, fault, now)

    def container_exited(self, instance_id: int, now: float) -> None:
        """A real machine's processes ended by themselves: the instance is exited from now on."""
        instance = next((i for i in self.unreached(now) if i.id == instance_id), None)
        misfortunes.exit_by_itself(instance or self.instance(instance_id, now), self._settled_until)

    def place(self, instance_id: int, host: str, port: int) -> None:
        """Where the SSH server of an instance's real machine answers."""
        self._instances[instance_id].endpoint = (host, port)
