"""What any test may ask for: Google's emulators, started once a session and only if a test uses them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

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
