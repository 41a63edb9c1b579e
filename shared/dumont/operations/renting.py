"""Search and rent: candidates from every market, and one create call per intent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import meter, provisioning, spares, tending
from dumont.domain.actions import Rent, Search
from dumont.domain.errors import (
    AuthError,
    BidTooLow,
    InvalidRequest,
    OfferGone,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
)
from dumont.domain.failover_offers import rank_for_failover
from dumont.domain.names import instance_label
from dumont.domain.offers import Offer, OfferQuery, RankedOffer, pick_racers, rank
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
    Step,
)
from dumont.domain.snapshots import Snapshot
from dumont.domain.states import check_transition
from dumont.operations import agents, budgets
from dumont.operations.invocation import Invocation
from dumont.operations.reputations import rank_by_reputation, reputation_of
from dumont.ports import Rental, Transaction

log = logging.getLogger(__name__)

BESIDE = (OperationKind.SPARE, OperationKind.DRILL)
"""Who rents beside a machine that runs: on another host, chosen as a failover would."""


def search(
    invocation: Invocation, op: Operation, machine: Machine, instances: Sequence[Instance], action: Search
) -> None:
    """Ask every market, rank what passes, and keep the best as candidates; hosts already tried are left out."""
    began = invocation.now()
    query = machine.spec.query()
    offers = []
    failure: ProviderError | None = None
    for provider in invocation.ports.providers.values():
        try:
            # Without the price, so that "nothing under your price" can say what the cheapest costs.
            offers += provider.search(replace(query, max_price_usd_per_hour=None))
        except ProviderError as error:
            failure = error
            log.warning("search failed", extra={"provider": provider.name, "error": str(error)})
    if failure is not None and not offers:
        _search_failed(invocation, failure)
        return
    serving = invocation.ports.store.get(Instance, machine.instance_id or "") if op.kind in BESIDE else None
    ranked = _ranked(invocation, op, offers, query, [*instances, *([serving] if serving is not None else [])], action)
    tried = frozenset(i.offer.machine_id for i in (*instances, serving) if i is not None and i.offer.machine_id)
    racers = pick_racers(ranked, machine.spec.race_width, avoid_machines=tried)
    problem = (
        None
        if racers or instances
        else _no_offers(machine.spec, rank(offers, replace(query, max_price_usd_per_hour=None)))
    )
    step = Step(
        name="search",
        started_at=began,
        ended_at=invocation.now(),
        ok=bool(racers),
        detail=f"{len(ranked)} of {len(offers)} offers pass",
    )

    def change(tx: Transaction, op: Operation, fresh: Machine | None) -> Operation:
        if fresh is not None and fresh.operation_id == op.id and fresh.state is MachineState.REQUESTED:
            check_transition(fresh.state, MachineState.PROVISIONING)
            tx.put(replace(fresh, state=MachineState.PROVISIONING, updated_at=invocation.now()))
        failing_over = op.kind is OperationKind.FAILOVER
        # A machine that people rely on waits for an offer, instead of failing because there is none just now.
        again_at = invocation.now() + tending.backoff_seconds(op.rounds, first=5.0, most=120.0)
        return replace(
            op,
            phase=provisioning.RACE,
            candidates=tuple(racers),
            rounds=op.rounds + 1,
            tries=0,
            not_before=0.0 if racers or not failing_over else again_at,
            steps=(*op.steps, step),
            problem=op.problem or (None if failing_over else problem),
        )

    invocation.apply(change)


def _ranked(
    invocation: Invocation,
    op: Operation,
    offers: Sequence[Offer],
    query: OfferQuery,
    instances: Sequence[Instance],
    action: Search,
) -> Sequence[RankedOffer]:
    """The offers that pass, by what we know of their hosts; of a failover, by how soon they would serve as well."""
    if op.kind is not OperationKind.FAILOVER and op.kind not in BESIDE:
        return rank_by_reputation(invocation.ports, offers, query)
    known = reputation_of(invocation.ports, offers)
    if known is None:
        return rank(offers, query)
    snapshot = invocation.ports.store.get(Snapshot, op.snapshot_id or "")
    serving = instances[-1] if op.kind in BESIDE and instances and instances[-1].operation_id != op.id else None
    lost = serving or next((i for i in instances if i.id == op.suspect_instance_id), None)
    failed = [i for i in instances if i.problem is not None and i.problem.code != "lost_race"]
    failed += [serving] if serving is not None else []  # what fails one host of an owner may fail the next
    return rank_for_failover(
        offers,
        query,
        snapshot.bytes_total if snapshot is not None else 0,
        known,
        avoid_machines=frozenset({lost.offer.machine_id} if lost is not None and lost.offer.machine_id else ()),
        avoid_hosts=frozenset(i.offer.host_id for i in failed if i.offer.host_id is not None),
        avoid_regions=frozenset(action.avoid_regions),
        near=lost.offer.region if lost is not None else None,
    )


def _search_failed(invocation: Invocation, error: ProviderError) -> None:
    problem = None
    if isinstance(error, AuthError | InvalidRequest):
        problem = Problem(
            code="market_refused",
            detail=f"{error.provider or 'the market'} refused our search: {error}",
            safe="Nothing was rented.",
            hint="check the provider's API key (VAST_API_KEY)",
        )

    def change(_tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        again_at = invocation.now() + tending.backoff_seconds(op.tries, first=1.0, most=10.0)
        return replace(op, tries=op.tries + 1, not_before=again_at, problem=op.problem or problem)

    invocation.apply(change)


def _no_offers(spec: MachineSpec, at_any_price: Sequence[RankedOffer]) -> Problem:
    wanted = spec.gpu or f"GPU with {spec.min_vram_gib:.0f} GiB"
    if at_any_price and spec.max_price_usd_per_hour is not None:
        cheapest = min(r.price_usd_per_hour for r in at_any_price)
        return Problem(
            code="no_offers",
            detail=f"no {wanted} is offered under ${spec.max_price_usd_per_hour:.4f} an hour; "
            f"the cheapest that fits costs ${cheapest:.4f}",
            safe="Nothing was rented.",
            hint=f"try --max-price {cheapest + 0.005:.2f}",
        )
    return Problem(
        code="no_offers",
        detail=f"no {wanted} is offered that passes your filters, at any price",
        safe="Nothing was rented.",
        hint="widen the search: another --gpu or --region, a lower --min-reliability, --unverified",
    )


# --- Rent ---------------------------------------------------------------------------------------------------------


def rent(invocation: Invocation, op: Operation, machine: Machine, action: Rent) -> None:
    """Intent first, under a label that no other call bears, then the call, once (prior art 3; Vast pitfall 1)."""
    ports = invocation.ports
    offer, spec = action.offer, machine.spec
    label = instance_label(ports.deployment, machine.id, op.epoch, ports.ids.new("i").removeprefix("i-"))
    began = invocation.now()
    intent = Instance(
        id=label,
        machine=machine.id,
        epoch=op.epoch,
        rented_by=op.id,
        operation_id=op.id,
        provider=offer.provider,
        offer=offer,
        disk_gb=spec.disk_gb,
        state=InstanceState.INTENDED,
        outcome_unknown=True,
        agent_sent=bool(ports.public_url),
        standby=op.kind in BESIDE,
        intended_at=began,
        next_check_at=began,
    )

    def write_intent(tx: Transaction, fresh_op: Operation, fresh: Machine | None) -> Operation:
        # A destroy that was accepted meanwhile must not meet an intent that it has not seen.
        if fresh is not None and _may_rent(fresh_op, fresh):
            tx.put(intent)
            budgets.look_soon(tx, machine.id, began)
        return replace(fresh_op, candidates=tuple(c for c in fresh_op.candidates if c != offer))

    invocation.apply(write_intent)
    if ports.store.get(Instance, label) is None:
        return
    bid = offer.gpu_usd_per_hour if spec.interruptible else None
    rental = Rental(
        label=label,
        image=spec.image,
        disk_gb=spec.disk_gb,
        bid_usd_per_hour=bid,
        on_start=agents.on_start(ports, machine.id, op.epoch, label, spec),
    )
    try:
        provider_instance_id = ports.providers[offer.provider].create(offer, rental)
    except ProviderError as error:
        _rent_refused(invocation, label, offer.id, began, error, action)
    else:
        now = invocation.now()
        step = _rent_step(label, began, now, True, f"offer {offer.id}, ${offer.total_usd_per_hour(spec.disk_gb):.4f}/h")
        invocation.record(
            {label: lambda i: _created(i, provider_instance_id, now)},
            lambda o: replace(o, steps=(*o.steps, step)),
        )


def _may_rent(op: Operation, machine: Machine) -> bool:
    if op.kind in BESIDE:
        return spares.holds(op, machine)
    return machine.operation_id == op.id and machine.epoch == op.epoch


def _created(instance: Instance, provider_instance_id: str, now: float) -> Instance:
    """The create call's answer, whatever became of the instance's record meanwhile: it exists, and bills."""
    if instance.provider_instance_id is not None:
        return instance
    wanted = instance.state is InstanceState.INTENDED
    return replace(
        meter.reopened(instance) if instance.gone_at is not None else instance,
        state=InstanceState.CREATED if wanted else InstanceState.RELEASING,
        open=True,
        gone_at=None,
        outcome_unknown=False,
        provider_instance_id=provider_instance_id,
        created_at=now,
        next_check_at=now,
        tries=0,
    )


def _rent_step(label: str, began: float, now: float, ok: bool, detail: str) -> Step:
    return Step(name="rent", started_at=began, ended_at=now, ok=ok, instance_id=label, detail=detail)


def _rent_refused(
    invocation: Invocation, label: str, offer_id: str, began: float, error: ProviderError, action: Rent
) -> None:
    """The error's type says whether something was rented, and what to do (design: providers)."""
    now = invocation.now()
    step = _rent_step(label, began, now, False, f"offer {offer_id}: {error}"[:300])
    problem = Problem(code=_code_of(error), detail=str(error)[:300])
    if isinstance(error, BidTooLow) and error.provider_instance_id is not None:
        stray = error.provider_instance_id
        invocation.record(
            {label: lambda i: tending.dismiss(_created(i, stray, now), now, problem)},
            lambda o: replace(o, steps=(*o.steps, step)),
        )
        return
    if isinstance(error, ProviderDown):
        # The answer was lost: it may exist. It is looked for by its label; nothing is rented in its place blindly.
        invocation.record(
            {label: lambda i: replace(i, next_check_at=now + 1.0) if i.provider_instance_id is None else i},
            lambda o: replace(o, steps=(*o.steps, step)),
        )
        return

    def change(op: Operation) -> Operation:
        changed = replace(op, steps=(*op.steps, step))
        if isinstance(error, RateLimited):
            return replace(
                changed, candidates=(action.offer, *op.candidates), not_before=now + error.retry_after_seconds
            )
        if isinstance(error, OutOfCredit | AuthError | InvalidRequest):
            return replace(changed, problem=op.problem or _refusal(error))
        return changed

    invocation.record({label: lambda i: tending.never_was(i, now, problem) if i.open else i}, change)


def _code_of(error: ProviderError) -> str:
    names: dict[type[ProviderError], str] = {
        OfferGone: "offer_gone",
        OutOfCredit: "out_of_credit",
        RateLimited: "rate_limited",
        AuthError: "market_refused",
        InvalidRequest: "market_refused",
        BidTooLow: "bid_too_low",
    }
    return names.get(type(error), "market_error")


def _refusal(error: ProviderError) -> Problem:
    market = error.provider or "the market"
    if isinstance(error, OutOfCredit):
        return Problem(
            code="out_of_credit",
            detail=f"{market} refused to rent: {error}",
            safe=provisioning.NOTHING_BILLS,
            hint=f"add credit at {market}, then try again",
        )
    return Problem(
        code="market_refused",
        detail=f"{market} refused to rent: {error}",
        safe=provisioning.NOTHING_BILLS,
        hint="check the provider's API key and its permissions, and the image's name",
    )
