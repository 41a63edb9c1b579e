"""What any test may ask for: Google's emulators, started once a session and only if a test uses them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.local.emulators import EmulatorMissing, FirestoreEmulator, PubSubEmulator


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[str]:
    """host:port of a Firestore emulator. A project id of one's own isolates a test."""
    yield from _host_of(FirestoreEmulator())


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[str]:
    """host:port of a Pub/Sub emulator. A project id of one's own isolates a test."""
    yield from _host_of(PubSubEmulator())


def _host_of(emulator: FirestoreEmulator | PubSubEmulator) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(emulator)
        except EmulatorMissing as reason:
            # Where all must run (CI), a skipped contract would be no contract.
            if os.environ.get("DUMONT_REQUIRE_ALL") == "1":
                pytest.fail(f"DUMONT_REQUIRE_ALL=1, and: {reason}", pytrace=False)
            pytest.skip(str(reason))
        yield emulator.host


def pytest_configure() -> None:
    """A shell that starts us in the background has SIGINT ignored, and so would be all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


WHOLE_FILES = ("contract", "end_to_end")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Over several processes (`--dist loadgroup`) a file's tests stay together, as what they share is dear to start;
    and all stories that are played on the one stage, which would else be played by each process. Marked as they are
    collected: xdist reads the marks before any other hook sees the whole list."""
    path = Path(str(item.path))
    if path.parent.name in WHOLE_FILES:
        on_stage = "stage" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("stage" if on_stage else f"{path.parent.name}/{path.stem}"))
