"""A market's notice: what it names is looked into at once."""

from __future__ import annotations

import logging

from dumont import queries
from dumont.domain import notices
from dumont.domain.errors import ProviderError
from dumont.domain.names import label_prefix
from dumont.domain.notices import Notice, Received, WebhookEvent
from dumont.domain.records import Instance, Operation
from dumont.domain.statuses import InstanceStatus
from dumont.operations import failover
from dumont.ports import Ports

log = logging.getLogger(__name__)


def receive(ports: Ports, notice: Notice) -> Received:
    """Deal with a notice, once. Raises `StoreError`: then it is delivered again."""
    event_id = f"{notice.provider}-{notice.event_id}"
    if ports.store.get(WebhookEvent, event_id) is not None:
        return Received(kind=notice.kind, repeated=True)
    why = notices.loss(notice.kind)
    named = notices.named(notice, ports.store.find(Instance, queries.open_instances()))
    suspected: list[Operation] = []
    if why:
        for instance in named or _that_stand_still(ports, notice.provider):
            op = failover.suspect(ports, instance.id, notice=why)
            suspected += [op] if op is not None else []
    elif notice.kind == notices.LOW_CREDIT:
        log.error("the market's credit runs low", extra={"provider": notice.provider, "said": notice.subject[:200]})
    log.warning(
        "a market's notice",
        extra={"provider": notice.provider, "kind": notice.kind, "machines": sorted({i.machine for i in named})},
    )
    # Written last: an invocation that dies before this is called again, and a suspicion twice is one.
    now = ports.clock.now()
    event = WebhookEvent(
        id=event_id,
        provider=notice.provider,
        kind=notice.kind,
        received_at=now,
        suspected=tuple(op.id for op in suspected),
        expires_at=now + notices.KEPT_SECONDS,
    )
    ports.store.transact(lambda tx: tx.create(event))
    machines = tuple(sorted({i.machine for i in named} | {op.machine for op in suspected}))
    return Received(kind=notice.kind, machines=machines, operations=event.suspected)


def _that_stand_still(ports: Ports, provider: str) -> list[Instance]:
    """A notice that names none of our instances says only that one was lost: those are meant that the market says do
    not run. Where it does not answer, silence tells soon."""
    market = ports.providers.get(provider)
    if market is None:
        return []
    try:
        listed = market.list(label_prefix(ports.deployment))
    except ProviderError as error:
        log.info("the market does not say which", extra={"provider": provider, "error": str(error)})
        return []
    still = {seen.id for seen in listed if seen.status is InstanceStatus.STOPPED}
    return [i for i in ports.store.find(Instance, queries.open_instances()) if i.provider_instance_id in still]
