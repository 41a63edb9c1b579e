"""The composition root: the ports of this process, made from its environment, each adapter imported at first need.

A function that never opens a shell never imports paramiko; the local cloud never imports Google's clients.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hmac
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dumont import settings as settings_module
from dumont.adapters.clock import SystemClock, SystemIds
from dumont.domain.errors import BlobRefused, BusUnavailable, DumontError, InvalidInput
from dumont.optional_ports import Courier, Dns, Notifier, SweepSchedule
from dumont.ports import Blobs, Bus, EngineFiles, Ports, Provider, Store
from dumont.settings import Settings

if TYPE_CHECKING:
    from dumont.adapters.google_keys import GoogleKeys
    from dumont.adapters.ssh import ParamikoShell
    from dumont.adapters.tunnel import Tunnels
    from dumont.edge.audit import Auditor
    from dumont.edge.google import GoogleCaller
    from dumont.edge.limits import Limiter
    from dumont.edge.uses import KeyUses, Refusals


@functools.cache
def settings() -> Settings:
    """The environment's settings, read once. Raises `InvalidInput` naming the variable at fault."""
    return settings_module.read(os.environ)


@functools.cache
def ports() -> Ports:
    """This process's ports."""
    return build(settings())


@functools.cache
def tunnels() -> Tunnels:
    """This process's ways to machines' ports."""
    with _importing():
        from dumont.adapters.tunnel import Tunnels

    return Tunnels(functools.cache(lambda: _shell(settings())))


@functools.cache
def limiter() -> Limiter:
    """This process's count of who does how much."""
    from dumont.edge.limits import Limiter

    return Limiter(SystemClock().now)


@functools.cache
def auditor() -> Auditor:
    """What writes down who changes what."""
    from dumont.edge.audit import Auditor

    return Auditor()


@functools.cache
def key_uses() -> KeyUses:
    """This process's memory of which key was used when."""
    from dumont.edge.uses import KeyUses

    return KeyUses(SystemClock().now)


@functools.cache
def refusals() -> Refusals:
    """This process's count of proofs that did not hold."""
    from dumont.edge.uses import Refusals

    return Refusals(SystemClock().now)


@functools.cache
def google_caller() -> GoogleCaller | None:
    """The check of those who call from within Google; None where nobody does, as in the local cloud."""
    chosen = settings()
    if not chosen.caller:
        return None
    from dumont.edge.google import GoogleCaller

    return GoogleCaller(
        make_keys=functools.cache(lambda: _google_keys(chosen)),
        caller=chosen.caller,
        audience=chosen.audience,
        behind_iam=chosen.caller_checked == "iam",
    )


@functools.cache
def chat() -> Notifier:
    """Slack, where people ask and are answered."""
    return _chat(settings())


@functools.cache
def notifier() -> Notifier:
    """Who is told what happens by itself."""
    if settings().alerts == "slack":
        return chat()
    from dumont.adapters.log_notifier import LogNotifier

    return LogNotifier()


@functools.cache
def courier() -> Courier:
    """What carries webhooks out."""
    with _importing():
        from dumont.adapters.http_courier import HttpCourier

    return HttpCourier()


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """No garbage collection meanwhile: what an import makes stays, and looking through it is a tenth of its time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Of two threads that import at once the first one saw it enabled, and enables it again: no lock is needed.
        if collects:
            gc.enable()


def build(chosen: Settings) -> Ports:
    """Ports for given settings."""
    return Ports(
        store=_store(chosen),
        bus=_bus(chosen),
        providers=_Providers(chosen),
        make_shell=functools.cache(lambda: _shell(chosen)),
        clock=SystemClock(),
        ids=SystemIds(),
        deployment=chosen.deployment,
        make_blobs=functools.cache(lambda: _blobs(chosen)),
        data_key=lambda machine: _data_key(chosen, machine),
        engine=_engine,
        public_url=chosen.public_url,
        alerts=bool(chosen.alerts),
        make_dns=functools.cache(lambda: _dns(chosen)) if chosen.dns else None,
        dns_zone=chosen.dns_zone,
        make_schedule=functools.cache(lambda: _schedule(chosen)) if chosen.scheduler_job else None,
        subscriptions=True,
        subscription_secret=lambda subscription, generation: _token_secret(
            chosen, f"dumont webhook secret\0{subscription}\0{generation}".encode()
        ),
        agent_secret=functools.cache(lambda: _token_secret(chosen, b"dumont agent tokens")),
        token_secret=functools.cache(lambda: _token_secret(chosen, b"dumont api tokens")),
        bootstrap_key=chosen.bootstrap_key,
    )


def _store(chosen: Settings) -> Store:
    if chosen.store == "firestore":
        with _importing():
            from dumont.adapters.firestore_store import FirestoreStore

        return FirestoreStore(chosen.project)
    from dumont.adapters.sqlite_store import SqliteStore

    return SqliteStore(Path(chosen.store.removeprefix("sqlite:")))


def _bus(chosen: Settings) -> Bus:
    if chosen.bus == "pubsub":
        return _LazyPubSub(chosen.project)
    if chosen.bus:
        from dumont.adapters.local_bus import LocalBus

        return LocalBus(chosen.bus)
    return _NoBus()


class _LazyPubSub:
    """Pub/Sub, whose client is imported at the first message: a function that only reads starts without it."""

    def __init__(self, project: str) -> None:
        self._project = project

    @functools.cached_property
    def _bus(self) -> Bus:
        with _importing():
            from dumont.adapters.pubsub_bus import PubSubBus

        return PubSubBus(self._project)

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        self._bus.publish(topic, message)


class _NoBus:
    """Where no bus is configured: every message is lost, and the sweep does all."""

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        del message
        raise BusUnavailable(f"no bus is configured (DUMONT_BUS), so nothing was published to {topic}")


class _Providers(Mapping[str, Provider]):
    """The markets that there are keys for, each client made at its first use."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        self._made: dict[str, Provider] = {}

    def _names(self) -> list[str]:
        return ["vast"] if self._chosen.vast_api_key else []

    def __getitem__(self, name: str) -> Provider:
        if name not in self._names():
            raise KeyError(name)
        if name not in self._made:
            with _importing():
                from dumont.adapters.vast import Vast

            self._made[name] = Vast(self._chosen.vast_api_key, self._chosen.vast_url, clock=SystemClock())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


def _blobs(chosen: Settings) -> Blobs:
    if chosen.blobs.startswith("folder:"):
        from dumont.adapters.folder_blobs import FolderBlobs

        return FolderBlobs(Path(chosen.blobs.removeprefix("folder:")), clock=SystemClock())
    if chosen.blobs == "b2":
        from dumont.adapters.b2 import B2Blobs

        if not chosen.bucket:
            raise InvalidInput("no bucket is named for snapshots", field="DUMONT_BUCKET")
        return B2Blobs(chosen.b2_key_id, chosen.b2_key, chosen.bucket, clock=SystemClock(), realm=chosen.b2_realm)
    raise BlobRefused("no object store is configured (DUMONT_BLOBS, or B2_APPLICATION_KEY_ID and its key)")


def _data_key(chosen: Settings, machine: str) -> bytes:
    """Each machine's own key, stored nowhere. A host that has one learns nothing of the others."""
    text = chosen.data_master_key or _secret_file(chosen.data_master_key_file, "the data master key")
    return _derived(text, "DUMONT_DATA_MASTER_KEY", b"dumont data key\0" + machine.encode())


def _token_secret(chosen: Settings, purpose: bytes) -> bytes:
    """Not from the data master key: functions that are open to the world check tokens, and none of them should be able
    to open a snapshot."""
    text = chosen.token_key or _secret_file(chosen.token_key_file, "the key that tokens are made with")
    return _derived(text, "DUMONT_TOKEN_KEY", purpose)


def _derived(text: str, name: str, purpose: bytes) -> bytes:
    """A key for one purpose: HMAC-SHA256 is a PRF (as in HKDF-Expand, RFC 5869, with one block)."""
    if len(text) < 32:
        raise InvalidInput("the key that others are made from is missing or short", field=name)
    return hmac.new(text.encode(), purpose, "sha256").digest()


def _schedule(chosen: Settings) -> SweepSchedule:
    with _importing():
        from dumont.adapters.cloud_scheduler import CloudSchedule

    return CloudSchedule(chosen.scheduler_job)


def _google_keys(chosen: Settings) -> GoogleKeys:
    with _importing():
        from dumont.adapters import google_keys

    return google_keys.GoogleKeys(chosen.google_keys_url or google_keys.URL)


def _chat(chosen: Settings) -> Notifier:
    with _importing():
        from dumont.adapters.slack import SlackNotifier, WebhookNotifier

    if chosen.slack_bot_token:
        return SlackNotifier(chosen.slack_bot_token, chosen.slack_channel, api_url=chosen.slack_api_url)
    return WebhookNotifier(chosen.slack_webhook_url)


def _dns(chosen: Settings) -> Dns:
    kind, _, place = chosen.dns.partition(":")
    with _importing():
        if kind == "cloudflare":
            from dumont.adapters.cloudflare import Cloudflare

            return Cloudflare(chosen.cloudflare_token, place)
        from dumont.adapters.cloud_dns import CloudDns

    project, _, zone = place.partition("/")
    return CloudDns(project, zone)


def _engine() -> EngineFiles:
    from dumont.agent import archive

    return EngineFiles(program=archive.engine(), wheels=archive.wheels())


def _secret_file(path: str, what: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise DumontError(f"{what} cannot be read: {error.strerror}") from error


def _shell(chosen: Settings) -> ParamikoShell:
    # paramiko imports invoke if it can, for ~/.ssh/config, which we never read; that is half of its import's time.
    sys.modules.setdefault("invoke", None)  # type: ignore[arg-type]  # None: "cannot be imported"
    with _importing():
        from dumont.adapters.ssh import ParamikoShell

    text = chosen.ssh_private_key
    if not text and chosen.ssh_private_key_file:
        text = _secret_file(chosen.ssh_private_key_file, "the control plane's SSH key") + "\n"
    if not text:
        raise InvalidInput("the control plane has no SSH key", field="DUMONT_SSH_PRIVATE_KEY")
    return ParamikoShell(text)
