"""Webhooks out, in memory: a courier that says what a test tells it to, and the records around it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from standardwebhooks import Webhook

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.addresses import Target
from dumont.domain.errors import NotDelivered
from dumont.domain.happenings import Happening
from dumont.domain.subscriptions import Delivery, DeliveryState, Subscription, shown_secret
from dumont.operations import deliveries, subscribers, subscriptions
from dumont.optional_ports import Posted
from dumont.ports import Ports, Query, Transaction
from tests.unit.rest_support import CountedIds, ManualClock, make_ports
from tests.unit.slack_support import Bus

NOW = 1_800_000_000.0
URL = "https://hook.example.com/dumont?key=abc"


def secret_of(subscription: str, generation: int) -> bytes:
    """What stands in for the deployment's key."""
    return hashlib.sha256(f"{subscription}/{generation}".encode()).digest()


@dataclass
class Sent:
    """What a receiver got."""

    target: Target
    addresses: tuple[str, ...]
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedCourier:
    """Answers with statuses in turn, the last one for ever; an error is raised."""

    answers: list[int | Posted | NotDelivered] = field(default_factory=lambda: [200])
    addresses: list[Sequence[str]] = field(default_factory=lambda: [["93.184.215.14"]])
    sent: list[Sent] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]

    def post(self, target: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes) -> Posted:
        self.before()
        self.sent.append(Sent(target, tuple(addresses), dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotDelivered):
            raise answer
        return answer if isinstance(answer, Posted) else Posted(status=answer)


@dataclass
class Office:
    """A Dumont that tells programs."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    store: MemoryStore = field(default_factory=lambda: MemoryStore(serialise=True))
    bus: Bus = field(default_factory=Bus)
    courier: ScriptedCourier = field(default_factory=ScriptedCourier)
    ids: CountedIds = field(default_factory=CountedIds)

    @property
    def ports(self) -> Ports:
        made = make_ports(self.store, self.clock)
        return dataclasses.replace(made, ids=self.ids, bus=self.bus, subscriptions=True, subscription_secret=secret_of)

    def subscribe(self, *types: str, url: str = URL) -> Subscription:
        """Somebody who wants these, or all."""
        made, secret = subscriptions.create(self.ports, self.courier, url=url, types=types or ("*",), created_by="ada")
        assert secret == shown_secret(secret_of(made.id, 1))
        return made

    def happens(self, kind: str = "failover.done", identifier: str = "1") -> list[Delivery]:
        """Something happens, and is written down."""
        news = Happening(id=f"{kind}.{identifier}", type=kind, at=self.clock.now(), data={"machine": "ada"})
        ports = self.ports
        made = ports.store.transact(lambda tx: subscribers.write(ports, tx, [news]))
        subscribers.publish(ports, made)
        return made

    def work(self) -> list[DeliveryState | None]:
        """Work off the hints; how each delivery stands then."""
        hinted = [message["delivery_id"] for topic, message in self.bus.sent if topic == subscribers.TOPIC]
        self.bus.sent.clear()
        return [deliveries.deliver(self.ports, self.courier, identifier) for identifier in hinted]

    def sweep(self) -> list[DeliveryState | None]:
        """The sweep's slow look, and the worker behind it."""
        subscribers.look(self.ports)
        return self.work()

    def sweep_until_settled(self, *, seconds: float = 4 * 86_400.0) -> None:
        """Sweep each minute for as long as anything is due."""
        until = self.clock.moment + seconds
        while self.clock.moment < until and self.waiting():
            self.clock.moment += 60
            self.sweep()

    def waiting(self) -> list[Delivery]:
        """The deliveries that are to be tried yet."""
        return [found for found in self.log() if found.deadline is not None]

    def log(self) -> list[Delivery]:
        """All deliveries."""
        return self.store.find(Delivery, Query())

    def delivery(self, identifier: str) -> Delivery:
        found = self.store.get(Delivery, identifier)
        assert found is not None
        return found

    def subscription(self, identifier: str) -> Subscription:
        found = self.store.get(Subscription, identifier)
        assert found is not None
        return found

    def put(self, *records: object) -> None:
        def work(tx: Transaction) -> None:
            for record in records:
                tx.put(record)  # type: ignore[arg-type]

        self.store.transact(work)


def signed_by(sent: Sent, secret: bytes) -> bool:
    """Whether a message bears a signature with this secret, by the official library's own arithmetic. The library's
    `verify` looks at the wall clock; end-to-end tests use it."""
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(int(sent.headers["webhook-timestamp"]), UTC)
    wanted = Webhook(shown_secret(secret)).sign(sent.headers["webhook-id"], stamp, sent.body.decode())
    return wanted in sent.headers["webhook-signature"].split(" ")
