"""The composition root: the ports of this process, made from its environment, each adapter imported at first need.

A function that never opens a shell never imports paramiko; the local cloud never imports Google's clients.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dumont import settings as settings_module
from dumont.adapters.clock import SystemClock, SystemIds
from dumont.domain.errors import BusUnavailable, DumontError, InvalidInput
from dumont.ports import Bus, Ports, Provider, Shell, Store
from dumont.settings import Settings


@functools.cache
def settings() -> Settings:
    """The environment's settings, read once. Raises `InvalidInput` naming the variable at fault."""
    return settings_module.read(os.environ)


@functools.cache
def ports() -> Ports:
    """This process's ports."""
    return build(settings())


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
    )


def _store(chosen: Settings) -> Store:
    if chosen.store == "firestore":
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
            from dumont.adapters.vast import Vast

            self._made[name] = Vast(self._chosen.vast_api_key, self._chosen.vast_url, clock=SystemClock())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


def _shell(chosen: Settings) -> Shell:
    from dumont.adapters.ssh import ParamikoShell

    text = chosen.ssh_private_key
    if not text and chosen.ssh_private_key_file:
        try:
            text = Path(chosen.ssh_private_key_file).read_text()
        except OSError as error:
            raise DumontError(f"the control plane's SSH key cannot be read: {error.strerror}") from error
    if not text:
        raise InvalidInput("the control plane has no SSH key", field="DUMONT_SSH_PRIVATE_KEY")
    return ParamikoShell(text)
