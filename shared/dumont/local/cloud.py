"""The local cloud: all functions, a bus, a schedule, a store and a simulated market, in one process on loopback.

The same functions run here as in Google's cloud, unchanged; only the adapters behind the ports differ, and with
`emulators` not even those.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace

from dumont import queries
from dumont.adapters.clock import SystemClock, SystemIds
from dumont.cli import credentials
from dumont.domain.budgets import DEFAULT_USD_PER_DAY
from dumont.domain.records import Operation, Role, Schedule
from dumont.edge import keys, logs, wiring
from dumont.local.scheduler import Scheduler
from dumont.operations.sweep import SWEEPER
from dumont.ports import Store, Transaction

PROJECT = "dumont-local"
SWEEP_EVERY_SECONDS = 0.5
VAST = "https://console.vast.ai"
LOCAL_KEY = "localcloud"


class LocalCloudError(Exception):
    """The local cloud cannot start; the message says why and what to do."""


def serve(
    *,
    port: int = 8080,
    market_port: int = 8090,
    data: Path | None = None,
    time_scale: float = 1.0,
    emulators: bool = False,
    seed: int = 0,
    boots: str = "fast",
) -> int:
    """Run until SIGINT or SIGTERM; answers with the exit status. `boots` is one of `market.lifecycle.BOOTS`."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with contextlib.ExitStack() as stack:
            url = _start(stack, stop, port, market_port, data, time_scale, emulators, seed, boots)
            _say(f"ready {url}")
            _say("Ctrl-C ends it. In another terminal: dumont search --gpu 'RTX 4090'")
            stop.wait()
            _say("stopping …")
        _say("stopped; nothing is left running")
    except LocalCloudError as error:
        print(f"dumont: {error}", file=sys.stderr)  # noqa: T201 - a command's words to its user
        return 1
    return 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's words to its user


def _start(
    stack: contextlib.ExitStack,
    stop: threading.Event,
    port: int,
    market_port: int,
    data: Path | None,
    time_scale: float,
    emulators: bool,
    seed: int,
    boots: str,
) -> str:
    real = bool(os.environ.get("VAST_API_KEY")) and not os.environ.get("VAST_URL")
    _check_free(port, "--port")
    folder = stack.enter_context(_data_folder(data, keep=real))
    log = stack.enter_context(_log_file(folder))
    logs.set_up(os.environ.get("DUMONT_LOG_LEVEL", "INFO"), log)
    os.environ["DUMONT_DEPLOYMENT"] = _kept(folder / "deployment", lambda: secrets.token_hex(4))
    os.environ["DUMONT_SSH_PRIVATE_KEY_FILE"] = str(_control_plane_key(folder))
    _market(stack, folder, market_port, time_scale, seed, boots, real=real)
    _object_store(stack, folder)
    # --- functions, bus and store ---
    from dumont.build.declarations import load
    from dumont.local.dispatcher import Dispatcher
    from dumont.local.host import FunctionHost, functions_folder

    base = f"http://127.0.0.1:{port}"
    if not real:  # a rented host cannot reach this one, unless its user says at which address
        os.environ.setdefault("DUMONT_PUBLIC_URL", base)
    os.environ.setdefault("DUMONT_WEBHOOKS_LOOPBACK", "1")
    routes: dict[str, str] = {}
    dispatcher = Dispatcher(routes, SystemClock(), project=PROJECT, concurrency=8)
    stack.callback(dispatcher.close)
    if emulators:
        hosts = _emulators(stack)
    else:
        os.environ["DUMONT_STORE"] = f"sqlite:{folder / 'store.sqlite3'}"
        os.environ["DUMONT_BUS"] = f"{base}/_bus"
    host = FunctionHost(load(functions_folder()), port, {"/_bus": dispatcher.wsgi})
    stack.callback(host.close)
    for topic, path in host.topics.items():
        if emulators:
            from dumont.local.emulators import subscribe_by_push

            subscribe_by_push(hosts, PROJECT, topic, base + path)
        else:
            routes[topic] = base + path
    ports = wiring.ports()
    _free_leases(ports.store)  # before anything of ours takes one
    threading.Thread(target=host.serve, name="functions", daemon=True).start()
    _wait_until_open(port, stop)
    # --- access and schedule ---
    url = f"http://localhost:{port}"
    # One key for all runs of this data: else each start would leave an admin's key behind that is good for ever.
    key = keys.make(ports.store, SystemIds(), SystemClock(), name="local", role=Role.ADMIN, key_id=LOCAL_KEY)
    credentials.write_key(url, key)
    stack.callback(credentials.remove_key, url)
    scheduler = Scheduler(
        f"{base}/heartbeat-check", key, every_seconds=float(os.environ.get("DUMONT_SWEEP_SECONDS", SWEEP_EVERY_SECONDS))
    )
    scheduler.start()
    stack.callback(scheduler.close)
    _say(f"functions  {url}/<function>")
    _say(f"API key    {credentials.credentials_file()} (the CLI finds it)")
    _say(f"budget     ${DEFAULT_USD_PER_DAY:.2f} a day for all machines, unless you set another: dumont budget")
    _say(f"data       {folder}" + ("" if data or real else " (removed at the end; keep it with --data DIR)"))
    return url


def _free_leases(store: Store) -> None:
    """We hold the data folder's lock, so a lease that is still there is a dead process's: nobody need wait for it."""
    store.transact(lambda tx: tx.delete(Schedule, SWEEPER))
    for held in store.find(Operation, queries.any_operation_open(limit=1000)):
        store.transact(partial(_free, held.id))


def _free(operation_id: str, tx: Transaction) -> None:
    op = tx.get(Operation, operation_id)
    if op is not None and op.open and op.lease_owner is not None:
        tx.put(replace(op, lease_owner=None, lease_until=0.0, deadline=0.0))


def _check_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalCloudError(
                f"port {port} is taken; is a local cloud running already? Else choose another with {option}"
            ) from error


@contextlib.contextmanager
def _data_folder(data: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder of state, locked against a second local cloud. Without `--data` it ends with the process; but the
    books of real rentals are always kept: without them nobody would end what bills."""
    temporary: Path | None = None
    if data is None and keep:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "dumont"
    if data is None:
        temporary = Path(tempfile.mkdtemp(prefix="dumont-"))
    folder = (data or temporary or Path()).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise LocalCloudError(f"the data folder {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise LocalCloudError(f"another local cloud uses {folder}; stop it, or choose another --data") from error
    try:
        yield folder
    finally:
        lock.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _log_file(folder: Path) -> Iterator[TextIO]:
    path = folder / "log.jsonl"
    if path.exists() and path.stat().st_size > 20_000_000:
        path.replace(folder / "log.1.jsonl")
    with path.open("a", buffering=1, encoding="utf-8") as log:
        yield log
        logs.close()


def _kept(path: Path, make: object) -> str:
    """A value that is made once and kept: this data's deployment name, so that its labels are nobody else's."""
    if not path.exists():
        credentials.write_private(path, make())  # type: ignore[operator]
    return path.read_text().strip()


def _control_plane_key(folder: Path) -> Path:
    from dumont.adapters.ssh import generate_key

    path = folder / "id_ed25519"
    if not path.exists():
        credentials.write_private(path, generate_key()[0])
    return path


def _market(
    stack: contextlib.ExitStack, folder: Path, port: int, time_scale: float, seed: int, boots: str, *, real: bool
) -> None:
    if real:
        _say(f"market     {VAST} – REAL: what you rent costs money")
        return
    if os.environ.get("VAST_API_KEY") and os.environ.get("VAST_URL"):
        _say(f"market     {os.environ['VAST_URL']} (VAST_URL)")
        return
    from dumont.local.market.server import MarketServer

    _check_free(port, "--market-port")
    key = _kept(folder / "market-key", lambda: secrets.token_hex(32))
    market = MarketServer(
        folder=folder / "market", clock=SystemClock(), api_keys=[key], port=port, seed=seed, time_scale=time_scale,
        boots=boots,
    )  # fmt: skip
    market.start()
    stack.callback(market.close)
    # Its notices are believed from the start; it sends them once it is told where to: POST /_market/webhook.
    os.environ["DUMONT_VAST_WEBHOOK_SECRET"] = _kept(folder / "webhook-secret", lambda: secrets.token_hex(32))
    os.environ["VAST_API_KEY"], os.environ["VAST_URL"] = key, market.url
    scaled = "" if time_scale == 1 else f", boots take {time_scale:g} of their real time"
    _say(f"market     {market.url} – simulated{scaled}; its key: {folder / 'market-key'}")


BUCKET = "dumont-local"


def _object_store(stack: contextlib.ExitStack, folder: Path) -> None:
    """B2, or a server that speaks its API, with keys that are as restricted and as short-lived as B2's."""
    os.environ["DUMONT_DATA_MASTER_KEY_FILE"] = str(folder / "data-master-key")
    _kept(folder / "data-master-key", lambda: secrets.token_hex(32))
    os.environ["DUMONT_TOKEN_KEY_FILE"] = str(folder / "token-key")
    _kept(folder / "token-key", lambda: secrets.token_hex(32))
    if os.environ.get("B2_APPLICATION_KEY_ID") and os.environ.get("DUMONT_BUCKET"):
        _say(f"snapshots  B2, bucket {os.environ['DUMONT_BUCKET']} – REAL")
        return
    from dumont.local.object_store.server import ObjectStoreServer

    server = ObjectStoreServer(folder / "objects", clock=SystemClock(), buckets=[BUCKET])
    server.start()
    stack.callback(server.close)
    os.environ |= {
        "DUMONT_BLOBS": "b2",
        "DUMONT_B2_REALM": server.url,
        "B2_APPLICATION_KEY_ID": server.key_id,
        "B2_APPLICATION_KEY": server.key,
        "DUMONT_BUCKET": BUCKET,
    }
    _say(f"snapshots  {server.url} – an object store of its own")


def _emulators(stack: contextlib.ExitStack) -> str:
    """Start Google's emulators and point their clients there; answers with Pub/Sub's host."""
    from dumont.local.emulators import EmulatorFailed, EmulatorMissing, FirestoreEmulator, PubSubEmulator

    _say("starting Google's emulators of Firestore and Pub/Sub …")
    try:
        firestore = stack.enter_context(FirestoreEmulator())
        pubsub = stack.enter_context(PubSubEmulator())
    except (EmulatorMissing, EmulatorFailed) as error:
        raise LocalCloudError(str(error)) from error
    os.environ["FIRESTORE_EMULATOR_HOST"] = firestore.host
    os.environ["PUBSUB_EMULATOR_HOST"] = pubsub.host
    os.environ["GOOGLE_CLOUD_PROJECT"] = PROJECT
    for name in ("DUMONT_STORE", "DUMONT_BUS"):
        os.environ.pop(name, None)
    _say(f"emulators  Firestore {firestore.host}, Pub/Sub {pubsub.host}")
    return pubsub.host


def _wait_until_open(port: int, stop: threading.Event) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if stop.wait(0.05):
            return
    raise LocalCloudError(f"the functions did not open port {port}")
