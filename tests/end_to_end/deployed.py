"""The whole set of functions as they are deployed: each entry a process of its own, started from its built bundle in an
environment of its own requirements, with the settings and the secrets that its declaration gives it and no others.
Google's own Pub/Sub emulator pushes to the workers, Google's own Firestore emulator holds the records.

What stands for Google between them is `Front`: it serves each function below one address, as cloudfunctions.net does,
and signs what Pub/Sub and Cloud Scheduler send, as those do and the emulator does not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.firestore_store import FirestoreStore
from dumont.adapters.ssh import generate_key
from dumont.build.bundles import Bundle
from dumont.build.declarations import Entry
from dumont.domain.records import Role
from dumont.edge import keys
from dumont.local.emulators import FirestoreEmulator, PubSubEmulator, subscribe_by_push
from dumont.local.market.server import MarketServer
from dumont.local.object_store.server import ObjectStoreServer
from dumont.local.scheduler import Scheduler
from tests.contract.google_tokens import CALLER, PATH, Google
from tests.contract.scripted_http import ScriptedServer
from tests.end_to_end.bundle_support import Environments, start, wait_until_up
from tests.end_to_end.cloud import Cloud, free_port

PROJECT = "dumont-whole"
BUCKET = "dumont-whole"
DEPLOYMENT = "whole"
STARTS_AT_ONCE = 4
SIGNED = "/_signed"
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Front:
    """One address for all functions: /<entry>/… goes to the entry's process; what comes below `SIGNED` goes there with
    Google's token for it."""

    def __init__(self, google: Google) -> None:
        self.ports: dict[str, int] = {}
        self.google = google
        self.audience = "https://us-central1-whole.cloudfunctions.net/"
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                front.pass_on(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _pass_on  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def pass_on(self, asked: BaseHTTPRequestHandler) -> None:
        signed = asked.path.startswith(SIGNED + "/")
        name, _, rest = asked.path.removeprefix(SIGNED if signed else "").removeprefix("/").partition("/")
        name, question, query = name.partition("?")
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        if name not in self.ports:
            asked.send_error(404)
            return
        headers = {k: v for k, v in asked.headers.items() if k.lower() not in _HOP}
        if signed:
            headers["Authorization"] = f"Bearer {self.google.token(aud=self.audience + name)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=120)
        try:
            connection.request(asked.command, f"/{rest}{question}{query}", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except OSError:
            asked.send_error(502)
            return
        finally:
            connection.close()
        asked.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                asked.send_header(key, value)
        asked.send_header("Content-Length", str(len(said)))
        asked.end_headers()
        with contextlib.suppress(OSError):  # who asked has hung up
            asked.wfile.write(said)


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    """At once, whatever they do: Google's instances end so, too."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait(10)


@contextlib.contextmanager
def deployed(folder: Path, bundles: dict[str, Bundle], environments: Environments) -> Iterator[Cloud]:
    """All of it, until the end of the block."""
    with contextlib.ExitStack() as stack:
        google = Google()
        certificates = stack.enter_context(ScriptedServer(google)).url + PATH
        front = Front(google)
        stack.callback(front.close)
        firestore, pubsub = stack.enter_context(FirestoreEmulator()), stack.enter_context(PubSubEmulator())
        market_port = free_port()
        market = MarketServer(
            folder=folder / "market", clock=SystemClock(), api_keys=["market-key"], port=market_port, time_scale=0.02
        )
        market.start()
        stack.callback(market.close)
        objects = ObjectStoreServer(folder / "objects", clock=SystemClock(), buckets=[BUCKET])
        objects.start()
        stack.callback(objects.close)

        known = {
            "VAST_API_KEY": "market-key",
            "DUMONT_SSH_PRIVATE_KEY": generate_key()[0],
            "B2_APPLICATION_KEY_ID": objects.key_id,
            "B2_APPLICATION_KEY": objects.key,
            "DUMONT_DATA_MASTER_KEY": secrets.token_hex(32),
            "DUMONT_TOKEN_KEY": secrets.token_hex(32),
        }
        common = {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "FIRESTORE_EMULATOR_HOST": firestore.host,
            "PUBSUB_EMULATOR_HOST": pubsub.host,
            "DUMONT_DEPLOYMENT": DEPLOYMENT,
            "DUMONT_PUBLIC_URL": front.url,
            "DUMONT_PROXIES": "1",
            "DUMONT_BUCKET": BUCKET,
            "DUMONT_B2_REALM": objects.url,
            "VAST_URL": market.url,
            # One process stands for as many instances as Google would start.
            "THREADS": "8",
        }
        entries = [(bundle, entry) for bundle in bundles.values() for entry in bundle.declaration.entries]

        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_kill, processes)

        def begin(bundle: Bundle, entry: Entry) -> tuple[str, subprocess.Popen[bytes], int]:
            # A secret of which nothing here knows is one that must have a value, and opens nothing.
            own = {name: known.get(name, secrets.token_hex(32)) for name in entry.secrets}
            if entry.topic is not None or not bundle.declaration.public:
                own |= {
                    "DUMONT_CALLER": CALLER,
                    "DUMONT_AUDIENCE": front.audience + entry.name,
                    "DUMONT_GOOGLE_KEYS_URL": certificates,
                }
            log = folder / f"{entry.name}.log"
            process, port = start(bundle, entry, environments.of(bundle), log, common | own)
            processes.append(process)
            wait_until_up(process, port, log)
            return entry.name, process, port

        with ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            for name, _process, port in pool.map(lambda pair: begin(*pair), entries):
                front.ports[name] = port
        for _bundle, entry in entries:
            if entry.topic is not None:
                subscribe_by_push(
                    pubsub.host, PROJECT, entry.topic, f"http://127.0.0.1:{front.port}{SIGNED}/{entry.name}"
                )
        with contextlib.closing(FirestoreStore(PROJECT, emulator_host=firestore.host)) as store:
            key = keys.make(store, SystemIds(), SystemClock(), name="whole", role=Role.ADMIN)
        credentials = folder / "config/dumont/credentials.json"
        credentials.parent.mkdir(parents=True)
        credentials.touch(0o600)
        credentials.write_text(json.dumps({front.url: key}))
        # Cloud Scheduler: its own token is put on by the front.
        scheduler = Scheduler(f"{front.url}{SIGNED}/heartbeat-check", "signed-by-the-front", every_seconds=1.0)
        scheduler.start()
        stack.callback(scheduler.close)
        yield Cloud(None, folder, front.port, market_port)


def logged(folder: Path) -> list[dict[str, object]]:
    """Every line of every function's log that is a record."""
    lines = [line for path in sorted(folder.glob("*.log")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if re.match(r"\{.*\}$", line)]
