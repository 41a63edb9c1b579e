"""What a snapshot holds comes back as it was: names, links, holes, modes, times, attributes."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine_rig import Rig, picture, weights

NAMES = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .filter(lambda name: name not in (b".", b"..") and not name.endswith(b".dumont-restore"))
)
CONTENTS = st.one_of(st.binary(max_size=300), st.integers(0, 3_000_000).map(lambda n: random.Random(n).randbytes(n)))
NODES = st.recursive(
    st.one_of(
        CONTENTS,
        st.tuples(st.just("link"), st.binary(min_size=1, max_size=30).filter(lambda target: b"\0" not in target)),
    ),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


def plant(where: bytes, node: object) -> None:
    if isinstance(node, dict):
        os.makedirs(where, exist_ok=True)  # noqa: PTH103 - bytes
        for name, inner in node.items():
            plant(where + b"/" + name, inner)
    elif isinstance(node, tuple):
        os.symlink(node[1], where)  # noqa: PTH211 - bytes
    else:
        assert isinstance(node, bytes)
        with open(where, "wb") as out:  # noqa: PTH123 - bytes
            out.write(node)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=st.dictionaries(NAMES, NODES, max_size=6), modes=st.lists(st.integers(0o400, 0o777), max_size=4))
def test_any_tree_comes_back(tree: dict[bytes, object], modes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        plant(os.fsencode(rig.workspace), tree)
        for path, mode in zip((p for p in rig.workspace.rglob("*") if p.is_file()), modes, strict=False):
            if not path.is_symlink():
                path.chmod(mode)
        taken = rig.snapshot("s1")
        assert taken.complete
        rig.restore(taken, rig.root / "back", options={"read_back": True})
        assert picture(rig.root / "back") == picture(rig.workspace)


def test_an_odd_workspace_comes_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    work = rig.workspace
    (work / "empty").touch()
    (work / "übung 日本\n.txt").write_text("text")
    (work / "model.safetensors").write_bytes(weights(3_000_000))
    (work / "odd.bin").write_bytes(random.Random(5).randbytes(3_000_001))
    (work / "secret").write_bytes(b"x")
    (work / "secret").chmod(0o4640)
    (work / "locked").mkdir(mode=0o500)
    (work / "one").write_bytes(b"shared" * 1000)
    (work / "deep/er").mkdir(parents=True)
    os.link(work / "one", work / "deep/er/two")
    (work / "loop").symlink_to("loop")
    (work / "up").symlink_to("../../..")
    (work / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(work / "pipe")
    os.setxattr(work / "one", "user.note", b"\x00\xff")
    os.utime(work / "odd.bin", ns=(1, 1_234_567_890_123_456_789))
    os.utime(work / "up", ns=(2, 2), follow_symlinks=False)
    os.utime(work / "deep", ns=(3, 3))
    taken = rig.snapshot("s1")
    assert taken.complete
    rig.restore(taken, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(work)


def test_holes_cost_nothing_and_stay_holes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with (rig.workspace / "disk.img").open("wb") as out:
        out.seek(1 << 28)
        out.write(b"middle" * 100_000)
        out.seek(1 << 30)
        out.write(b"end")
    with (rig.workspace / "nothing").open("wb") as out:
        out.truncate(1 << 26)
    taken = rig.snapshot("s1")
    assert taken.bytes_read < 2 << 20
    rig.restore(taken, tmp_path / "back", options={"read_back": True})
    assert picture(tmp_path / "back") == picture(rig.workspace)
    assert (tmp_path / "back/disk.img").stat().st_blocks * 512 < 4 << 20


def test_sockets_are_skipped_and_named(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(rig.workspace / "s"))
        taken = rig.snapshot("s1")
    assert taken.complete
    assert taken.skipped == [{"path": "s", "type": "socket"}]


def test_five_thousand_small_files(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for index in range(5_000):
        if index % 200 == 0:
            (rig.workspace / f"d{index // 200}").mkdir()
        (rig.workspace / f"d{index // 200}" / f"f{index}").write_bytes(b"%d " % index * (index % 50))
    taken = rig.snapshot("s1", options={"pack_bytes": 16 << 20})
    assert taken.files == 5_000
    assert len(taken.packs) < 5
    assert rig.restore(taken, tmp_path / "back").files == 5_000
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_one_path_is_restored_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "a/b").mkdir(parents=True)
    (rig.workspace / "a/b/file").write_bytes(b"old")
    (rig.workspace / "a/other").write_bytes(b"other")
    os.link(rig.workspace / "a/other", rig.workspace / "a/b/linked")
    taken = rig.snapshot("s1")
    (rig.workspace / "a/b/file").write_bytes(b"new")
    (rig.workspace / "a/b/added").write_bytes(b"added")
    (rig.workspace / "a/other").write_bytes(b"changed")
    rig.restore(taken, rig.workspace, options={"path": "a/b"})
    assert (rig.workspace / "a/b/file").read_bytes() == b"old"
    assert (rig.workspace / "a/b/linked").read_bytes() == b"other"
    assert not (rig.workspace / "a/b/added").exists()
    assert (rig.workspace / "a/other").read_bytes() == b"changed"
    rig.restore(taken, rig.workspace, options={"path": "a/other"})
    assert (rig.workspace / "a/other").read_bytes() == b"other"
    assert [path.name for path in rig.workspace.rglob("*.dumont-restore")] == []


def test_a_restore_replaces_the_whole_workspace(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "kept").write_bytes(b"kept")
    taken = rig.snapshot("s1")
    before = picture(rig.workspace)
    (rig.workspace / "kept").write_bytes(b"changed")
    (rig.workspace / "later").write_bytes(b"later")
    rig.restore(taken, rig.workspace)
    assert picture(rig.workspace) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects", "state", "state of new host", "workspace"]
