"""Whatever is flipped, cut or swapped in the store is refused and named, and nothing of it is ever written."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dumont.agent.engine import EngineError, ManifestRef, SnapshotResult, restore
from dumont.agent.engine.errors import Damaged, StoreMissing, UnsafePath
from dumont.agent.engine.manifest import Entry, Manifest, check, seal
from tests.engine_rig import Rig, files_below, picture, weights


@pytest.fixture
def taken(tmp_path: Path) -> tuple[Rig, SnapshotResult]:
    """A snapshot of a few kinds of files; the workspace has changed since."""
    rig = Rig(tmp_path)
    (rig.workspace / "m.safetensors").write_bytes(weights(1_500_000))
    (rig.workspace / "data").write_bytes(random.Random(3).randbytes(1_500_000))
    for index in range(50):
        (rig.workspace / f"text{index}").write_bytes(b"line %d\n" % index * 400)
    result = rig.snapshot("s1")
    (rig.workspace / "data").write_bytes(b"newer")
    return rig, result


def refused(rig: Rig, taken: SnapshotResult, kind: type[EngineError]) -> EngineError:
    """Restore over the workspace: it must be refused, and must leave everything as it was."""
    before = picture(rig.workspace)
    with pytest.raises(kind) as caught:
        rig.restore(taken, rig.workspace)
    assert picture(rig.workspace) == before
    assert not (rig.root / ".workspace.dumont-restore").exists()
    return caught.value


@pytest.mark.parametrize("part", range(16))
def test_a_flipped_byte_anywhere_in_a_pack_is_refused_and_named(part: int, taken: tuple[Rig, SnapshotResult]) -> None:
    rig, result = taken
    (pack,) = rig.packs()
    content = bytearray(pack.read_bytes())
    place = len(content) * part // 16 + part
    content[place] ^= 1 << (part % 8)
    pack.write_bytes(content)
    error = refused(rig, result, Damaged)
    assert result.snapshot_id in error.message
    assert result.packs[0].key in error.message
    offset = int(error.message.split("offset ")[1].split(" ")[0])
    length = int(error.message.split("length ")[1].split(")")[0])
    assert offset <= place < offset + length
    assert error.files
    found = rig.verify(result)
    assert not found.ok
    assert [(item["offset"], item["files"]) for item in found.damage] == [(offset, error.files)]


@pytest.mark.parametrize("part", range(12))
def test_a_flipped_byte_anywhere_in_a_manifest_is_refused(part: int, taken: tuple[Rig, SnapshotResult]) -> None:
    rig, result = taken
    path = rig.objects / result.manifest.key
    content = bytearray(path.read_bytes())
    content[(0, 2, 4, 6, 10, 20)[part] if part < 6 else len(content) * (part - 5) // 7 - 1] ^= 0x10
    path.write_bytes(content)
    assert "s1" in refused(rig, result, Damaged).message
    # Even if the control plane had been told the hash of the damaged one:
    lied = replace(result.manifest, sha256=hashlib.sha256(content).hexdigest())
    result.manifest = lied
    assert "s1" in refused(rig, result, Damaged).message


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda pack: pack.write_bytes(pack.read_bytes()[:-1]),
    "emptied": lambda pack: pack.write_bytes(b""),
    "turned": lambda pack: pack.write_bytes(pack.read_bytes()[::-1]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_pack_that_is_not_whole_is_refused(what: str, taken: tuple[Rig, SnapshotResult]) -> None:
    rig, result = taken
    DAMAGE[what](rig.packs()[0])
    assert refused(rig, result, Damaged).files


def test_a_pack_that_is_gone_is_named_with_its_files(taken: tuple[Rig, SnapshotResult]) -> None:
    rig, result = taken
    rig.packs()[0].unlink()
    assert refused(rig, result, StoreMissing).files
    assert rig.verify(result).damage[0]["code"] == "object_missing"


def test_one_pack_in_another_s_place_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "data").write_bytes(random.Random(3).randbytes(9_000_000))
    result = rig.snapshot("s1")
    one, other = rig.packs()[:2]
    shutil.copyfile(one, other)
    refused(rig, result, Damaged)


def test_an_earlier_manifest_in_the_place_of_a_later_one_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "data").write_bytes(b"one")
    first = rig.snapshot("s1")
    second = rig.snapshot("s2")
    shutil.copyfile(rig.objects / first.manifest.key, rig.objects / second.manifest.key)
    refused(rig, second, Damaged)
    second.manifest = replace(second.manifest, sha256=first.manifest.sha256)
    refused(rig, second, Damaged)


def test_another_machine_s_key_opens_nothing(taken: tuple[Rig, SnapshotResult]) -> None:
    rig, result = taken
    with pytest.raises(Damaged):
        rig.restore(result, rig.root / "back", data_key=bytes(32))
    with pytest.raises(Damaged):
        rig.restore(result, rig.root / "back", machine="m2")
    assert files_below(rig.root / "back") == []


def hostile(*entries: Entry) -> Manifest:
    return Manifest("s1", "m1", 0, "blake3", True, entries=[Entry("", "d", 0o755), *entries])


EVIL = {
    "up": [Entry("../out", "f")],
    "far up": [Entry("a", "d"), Entry("a/../../out", "f")],
    "absolute": [Entry("/etc/out", "f")],
    "dot": [Entry("./out", "f")],
    "doubled slash": [Entry("a", "d"), Entry("a//out", "f")],
    "zero byte": [Entry("a\0b", "f")],
    "through a link": [Entry("a", "l", link="/tmp"), Entry("a/out", "f")],
    "through a file": [Entry("a", "f"), Entry("a/out", "f")],
    "twice": [Entry("a", "l", link="/tmp"), Entry("a", "d"), Entry("a/out", "f")],
    "hard link outside": [Entry("a", "h", link="/etc/passwd")],
    "hard link to a link": [Entry("a", "l", link="/etc/passwd"), Entry("b", "h", link="a")],
    "no parent": [Entry("a/out", "f")],
    "device": [Entry("a", "b")],
    "root as a link": [],
}


@pytest.mark.parametrize("how", EVIL)
def test_a_hostile_manifest_writes_nothing_anywhere(how: str, tmp_path: Path) -> None:
    manifest = hostile(*EVIL[how])
    if how == "root as a link":
        manifest.entries = [Entry("", "l", link="/tmp")]
    with pytest.raises(UnsafePath):
        check(manifest)
    rig = Rig(tmp_path)
    sealed = seal(manifest, rig.key)
    (rig.objects / "m1/1/manifests").mkdir(parents=True)
    (rig.objects / "m1/1/manifests/s1").write_bytes(sealed)
    pinned = ManifestRef("m1/1/manifests/s1", hashlib.sha256(sealed).hexdigest())
    with pytest.raises(UnsafePath):
        restore(rig.job("restore", "s1", manifest=pinned, workspace=str(tmp_path / "back")))
    assert files_below(tmp_path / "back") == []
    assert not (tmp_path / "out").exists()


def test_a_partial_restore_does_not_follow_a_link_in_the_workspace(taken: tuple[Rig, SnapshotResult]) -> None:
    rig, _ = taken
    (rig.workspace / "a").mkdir()
    (rig.workspace / "a/file").write_bytes(b"content")
    second = rig.snapshot("s2")
    outside = rig.root / "outside"
    outside.mkdir()
    shutil.rmtree(rig.workspace / "a")
    (rig.workspace / "a").symlink_to(outside)
    with pytest.raises(UnsafePath):
        rig.restore(second, rig.workspace, options={"path": "a/file"})
    assert files_below(outside) == []
