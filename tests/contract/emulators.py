"""Google's emulators, where they are."""

from __future__ import annotations

import os

import pytest

from dumont.local.emulators import EmulatorMissing, FirestoreEmulator, PubSubEmulator, find_java


def need_emulators() -> None:
    """Skip the test where they are not installed; fails it where all must be."""
    try:
        find_java(os.environ)
        for emulator in (FirestoreEmulator(), PubSubEmulator()):
            emulator._find_jar()
    except EmulatorMissing as missing:
        if os.environ.get("DUMONT_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(missing))
