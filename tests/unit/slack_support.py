"""Slack requests as Slack signs them, and a Dumont of memory to take them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Request
from msgspec.structs import replace as changed
from slack_sdk.signature import SignatureVerifier

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.chats import Chat
from dumont.domain.errors import ProviderError
from dumont.domain.messages import Message
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Role, SshEndpoint
from dumont.edge.http import ANYBODY, Answer, Call
from dumont.edge.slack import door, worker
from dumont.ports import Ports, Query, Transaction
from dumont.settings import Settings
from tests.unit.rest_support import CountedIds, ManualClock, make_ports

Json = dict[str, Any]
NOW = 1_799_990_000.0
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TEAM = "T0TEAM01"
OPERATOR, VIEWER = "U0OPERATOR", "U0VIEWER"
SETTINGS = Settings(
    slack_signing_secret=SECRET, slack_team=TEAM, slack_roles={OPERATOR: Role.OPERATOR}, alerts="slack",
    slack_channel="C0ALERTS1",
)  # fmt: skip
OFFER = Offer(
    provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.3, storage_usd_per_gb_hour=0.0001, vram_gib=24,
    reliability=0.995, verified=True, region="Sweden, SE", download_mbps=900.0, disk_gb=500.0, host_id="h1",
    machine_id="m1",
)  # fmt: skip


@dataclass
class Bus:
    """Keeps what is published."""

    sent: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        self.sent.append((topic, dict(message)))


@dataclass
class Market:
    """A market that has some offers, and does nothing."""

    offers: list[Offer] = field(default_factory=lambda: [OFFER])
    down: bool = False
    name: str = "vast"

    def search(self, query: Any) -> list[Offer]:
        del query
        if self.down:
            raise ProviderError("no answer", provider="vast")
        return self.offers


@dataclass
class Chatter:
    """A chat that keeps what it is told."""

    edits: bool = True
    said: list[Message] = field(default_factory=list)

    def post(self, message: Message, *, key: str) -> str:
        del key
        self.said.append(message)
        return f"C/{len(self.said)}"

    def edit(self, reference: str, message: Message) -> None:
        del reference
        self.said.append(message)

    def find(self, key: str, since: float) -> str | None:
        del key, since
        return None


@dataclass
class Desk:
    """A Dumont, asked by Slack: requests are signed, messages to the worker are worked off."""

    settings: Settings = SETTINGS
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    store: MemoryStore = field(default_factory=lambda: MemoryStore(serialise=True))
    bus: Bus = field(default_factory=Bus)
    chat: Chatter = field(default_factory=Chatter)
    market: Market = field(default_factory=Market)
    ids: CountedIds = field(default_factory=CountedIds)
    _triggers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def ports(self) -> Ports:
        made = make_ports(self.store, self.clock)
        return replace(made, ids=self.ids, bus=self.bus, providers={"vast": self.market}, alerts=True)  # type: ignore[dict-item]

    # --- Asking ---

    def command(self, text: str, user: str = OPERATOR, **more: Any) -> Answer:
        """`/dumont text`, as Slack sends it."""
        return self.send(
            "commands", command_body(text, user, f"{next(self._triggers)}.1", more.pop("team", TEAM)), **more
        )

    def press(self, button: Json, user: str = OPERATOR, **more: Any) -> Answer:
        """A press of a button."""
        return self.send("actions", action_body(button, user, f"{next(self._triggers)}.1"), **more)

    def send(self, path: str, body: str, *, at: float | None = None, headers: Json | None = None) -> Answer:
        """A request with a body, signed at a time (now)."""
        signed = signature(body, self.clock.now() if at is None else at) | (headers or {})
        return door.answer(self.ports, self.settings, [path], signed, body.encode(), call(path))

    def work(self) -> list[Message]:
        """Work off what the worker was sent; answers with what was said in Slack meanwhile."""
        before = len(self.chat.said)
        for _, message in [m for m in self.bus.sent if m[0] == "dumont-slack" and "chat_id" in m[1]]:
            worker.reply(self.ports, self.settings, self.chat, message["chat_id"])
        self.bus.sent = [m for m in self.bus.sent if "chat_id" not in m[1]]
        return self.chat.said[before:]

    def asked(self, text: str, user: str = OPERATOR) -> list[Json]:
        """What a command is answered with, at once or by the worker."""
        at_once = self.command(text, user)
        if isinstance(at_once.body, dict):
            assert not self.work(), "answered twice"
            return list(at_once.body["blocks"])
        (said,) = self.work()
        return list(said.blocks)

    # --- What there is ---

    def machine(self, name: str = "trainer", state: MachineState = MachineState.RUNNING, **more: Any) -> Machine:
        """A machine with an instance."""
        instance_id = f"dumont.main.{name}.1.aa"
        runs = state is MachineState.RUNNING
        made = Machine(
            id=name, spec=MachineSpec(gpu="RTX 4090"), state=state, epoch=1, created_at=NOW - 7200, updated_at=NOW,
            running_since=NOW - 3600 if runs else None, instance_id=instance_id if runs else None,
            ssh=SshEndpoint(host="203.0.113.9", port=40022) if runs else None,
            host_key="ssh-ed25519 AAAA" if runs else None,
        )  # fmt: skip
        made = changed(made, **more)
        instance = Instance(
            id=instance_id, machine=name, epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", offer=OFFER,
            disk_gb=20, state=InstanceState.PROVEN, intended_at=NOW - 7100, created_at=NOW - 7000, booted_at=NOW - 3700,
            proven_at=NOW - 3600, provider_instance_id="77",
        )  # fmt: skip
        self.put(made, *([instance] if runs else []))
        return made

    def put(self, *records: Any) -> None:
        def work(tx: Transaction) -> None:
            for record in records:
                tx.put(record)

        self.store.transact(work)

    def chats(self) -> list[Chat]:
        """What was asked."""
        return self.store.find(Chat, Query())


def signature(body: str, at: float) -> Json:
    """The headers that Slack's own SDK makes of a body."""
    stamp = str(int(at))
    signed = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body=body)
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signed}


def command_body(text: str, user: str, trigger: str, team: str = TEAM) -> str:
    """As Slack documents it."""
    return urlencode(
        {
            "token": "old", "team_id": team, "team_domain": "lab", "channel_id": "C0LAB001", "channel_name": "lab",
            "user_id": user, "user_name": "ada", "command": "/dumont", "text": text, "api_app_id": "A1",
            "is_enterprise_install": "false", "trigger_id": trigger,
            "response_url": "https://hooks.slack.com/commands/T0TEAM01/1/abc",
        }
    )  # fmt: skip


def action_body(button: Json, user: str, trigger: str, team: str = TEAM) -> str:
    """As Slack documents it."""
    payload = {
        "type": "block_actions", "user": {"id": user, "username": "ada", "team_id": team}, "team": {"id": team},
        "channel": {"id": "C0LAB001"}, "trigger_id": trigger, "container": {"type": "message"},
        "response_url": "https://hooks.slack.com/actions/T0TEAM01/1/abc",
        "actions": [{"action_id": button["action_id"], "value": button["value"], "type": "button", "action_ts": "1"}],
    }  # fmt: skip
    return urlencode({"payload": json.dumps(payload)})


def call(path: str) -> Call:
    """The request around what is answered; only its path is looked at."""
    with Flask("test").test_request_context(f"/{path}", method="POST") as context:
        request: Request = context.request
        return Call(request=request, ports=None, key=ANYBODY, request_id="req-12345678")  # type: ignore[arg-type]
