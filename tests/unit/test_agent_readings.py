"""What the agent reads of its machine, from files as kernels and drivers write them."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dumont.agent.host import activity, farewell
from dumont.agent.host.gauges import Gauges, Rate, busy_seconds, disk_free_gib, network_bytes
from dumont.agent.host.gpus import read_gpus
from dumont.agent.host.procfs import Process, descendants, read_stat, workload_pids
from dumont.agent.host.rotating import RotatingLog

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 9999999    10    0    0    0     0          0         0  9999999     10    0    0    0     0       0          0
  eth0: 1000       10    0    0    0     0          0         0  200         10    0    0    0     0       0          0
  eth1:50          10    0    0    0     0          0         0  7           10    0    0    0     0       0          0
"""
MEMORY = "MemTotal:       1048576 kB\nMemFree:  1 kB\nMemAvailable:    524288 kB\n"


def test_gpus_and_what_they_do_not_tell() -> None:
    assert read_gpus("93, 1024, 24564, 61, 312.50\n0, 1, 24564, 30, [N/A]\n") == [
        {
            "utilization_percent": 93.0,
            "memory_used_mib": 1024.0,
            "memory_total_mib": 24564.0,
            "temperature_c": 61.0,
            "power_w": 312.5,
        },
        {
            "utilization_percent": 0.0,
            "memory_used_mib": 1.0,
            "memory_total_mib": 24564.0,
            "temperature_c": 30.0,
            "power_w": None,
        },
    ]
    assert read_gpus("[Not Supported], ERR!, nan, inf, \n") == [
        dict.fromkeys(("utilization_percent", "memory_used_mib", "memory_total_mib", "temperature_c", "power_w"))
    ]
    assert read_gpus("") is None
    assert read_gpus("No devices were found\n") is None


def test_the_network_is_all_but_the_loopback() -> None:
    assert network_bytes(NET) == (1050, 207)
    assert network_bytes(None) == (None, None)


def test_a_rate_is_unknown_at_first_after_a_gap_and_when_the_total_begins_anew() -> None:
    rate = Rate()
    assert rate.of(1.0, 100) is None
    assert rate.of(3.0, 300) == 100.0
    assert rate.of(4.0, None) is None
    assert rate.of(5.0, 400) is None
    assert rate.of(6.0, 10) is None
    assert rate.of(6.0, 20) is None


def test_where_nothing_can_be_read_all_is_unknown() -> None:
    gauges = Gauges(lambda _: None, 4)
    gauges.sample(1.0, {1})
    assert set(gauges.sample(2.0, {1}).values()) == {None}


def test_a_container_is_measured_by_its_control_group() -> None:
    files = {
        "/proc/stat": "cpu  0 0 0 0 0 0 0 0\n",
        "/proc/meminfo": MEMORY,
        "/proc/net/dev": NET,
        "/proc/loadavg": "1.50 1.00 0.50 1/100 4711\n",
        "/proc/7/io": "rchar: 1\nwrite_bytes: 1000\n",
        "/sys/fs/cgroup/cpu.stat": "usage_usec 1000000\nuser_usec 1\n",
        "/sys/fs/cgroup/cpu.max": "200000 100000\n",
        "/sys/fs/cgroup/memory.current": str(300 << 20),
        "/sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {100 << 20}\n",
        "/sys/fs/cgroup/memory.max": str(512 << 20),
    }
    gauges = Gauges(files.get, 64)
    first = gauges.sample(10.0, {7, 8})
    assert (first["cpu_percent"], first["disk_write_bytes_per_second"]) == (None, None)
    files["/sys/fs/cgroup/cpu.stat"] = "usage_usec 3000000\n"
    files["/proc/7/io"] = "write_bytes: 2000\n"
    files["/proc/9/io"] = "write_bytes: 500\n"
    files["/proc/net/dev"] = NET.replace("1000", "3000")
    assert gauges.sample(12.0, {7, 9}) == {
        "cpu_percent": 50.0,
        "memory_used_mib": 200,
        "memory_total_mib": 512,
        "disk_write_bytes_per_second": 750,
        "network_receive_bytes_per_second": 1000,
        "network_send_bytes_per_second": 0,
        "load_1m": 1.5,
    }


def test_without_a_control_group_the_host_is_measured() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    files = {"/proc/stat": f"cpu {ticks} 0 0 0 0 0 0 0\ncpu0 1\n", "/proc/meminfo": MEMORY}
    gauges = Gauges(files.get, 2)
    gauges.sample(0.0, set())
    files["/proc/stat"] = f"cpu {2 * ticks} 0 0 {9 * ticks} 0 0 0 0\n"
    found = gauges.sample(1.0, set())
    assert (found["cpu_percent"], found["memory_used_mib"], found["memory_total_mib"]) == (50.0, 512, 1024)
    assert busy_seconds("intr 1 2 3") is None


def test_an_older_control_group_without_limits() -> None:
    files = {
        "/proc/meminfo": MEMORY,
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": str(300 << 20),
        "/sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {100 << 20}\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "/sys/fs/cgroup/cpuacct/cpuacct.usage": "1000000000",
    }
    gauges = Gauges(files.get, 1)
    gauges.sample(0.0, set())
    files["/sys/fs/cgroup/cpuacct/cpuacct.usage"] = "1250000000"
    found = gauges.sample(1.0, set())
    assert (found["cpu_percent"], found["memory_used_mib"], found["memory_total_mib"]) == (25.0, 200, 1024)


def test_a_workspace_that_is_not_there_yet_has_the_room_of_its_parent(tmp_path: Path) -> None:
    free = disk_free_gib(tmp_path / "not" / "there")
    assert free is not None
    assert free > 0


def test_a_process_may_have_any_name() -> None:
    line = "42 (a) b (c) S 7 8 9 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 12345 1 1\n"
    assert read_stat(line) == Process(42, "a) b (c", "S", 7, 8, 9, 12345)
    assert read_stat("") is None
    assert read_stat("42 (gone") is None


@given(st.text(max_size=100))
def test_no_text_breaks_the_parsers(text: str) -> None:
    read_stat(text)
    network_bytes(text)
    busy_seconds(text)
    read_gpus(text)


def process(pid: int, name: str, parent: int, *, session: int = 0, state: str = "S") -> Process:
    return Process(pid, name, state, parent, session, session, 0)


def test_the_workload_is_all_below_the_agent_but_its_own_commands() -> None:
    processes = {
        p.pid: p
        for p in (
            process(1, "init", 0),
            process(9, "python3", 1),
            process(10, "python3", 9),
            process(20, "sh", 10, session=20),
            process(21, "python", 20, session=20),
            process(22, "daemon", 10, session=22),
            process(23, "dead", 10, session=23, state="Z"),
            process(30, "nvidia-smi", 10, session=30),
            process(31, "child", 30, session=30),
            process(40, "bash", 1, session=20),
            process(41, "marked", 1, session=41),
            process(50, "user", 1, session=50),
        )
    }
    assert workload_pids(processes, 10, {30}, 20, {41, 99}) == {20, 21, 22, 40, 41}
    assert descendants(processes, [9]) == {10, 20, 21, 22, 23, 30, 31}


def test_users_are_seen_and_a_container_s_own_processes_are_not() -> None:
    lines = {
        1: "/bin/bash /.launch",
        2: "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
        3: "sshd: root@pts/0",
        4: "-bash",
        5: "python train.py",
        6: "sleep infinity",
        7: "tmux new-session",
        8: "sleep 60",
        9: "sshd: root@notty",
        10: "python3 -IS /root/.dumont/agent/x.pyz c",
        11: "",
        12: "python3 /root/.dumont/engine/e.pyz",
    }
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 1, 7: 1, 8: 4, 9: 2, 10: 1, 11: 0, 12: 1}
    names = {pid: line.split(" ")[0].rsplit("/", 1)[-1].strip("-:") for pid, line in lines.items()}
    processes = {pid: process(pid, names[pid], parents[pid]) for pid in lines}

    def words(pid: int) -> list[str]:
        return lines[pid].split(" ")

    machine = activity.scope(processes, 1)
    assert machine == set(lines)
    assert activity.ssh_sessions(machine, processes, words) == 2
    assert activity.ssh_sessions(machine - {2, 3, 9}, processes, words) is None
    assert activity.user_processes(machine, processes, words, root=1, not_users={10}) == 2  # train.py, sleep 60
    assert activity.user_processes(set(), {}, words, root=1, not_users=()) is None
    assert activity.scope(processes, 2) == {2, 3, 4, 5, 8, 9}


def test_a_log_keeps_its_size_and_one_before_it(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "w.log", 100)
    for number in range(50):
        log.write(b"line %2d\n" % number)
    assert (tmp_path / "w.log").stat().st_size <= 100
    assert (tmp_path / "w.log.1").stat().st_size <= 100
    assert (tmp_path / "w.log").read_bytes().endswith(b"line 49\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.log", "w.log.1"]
    again = RotatingLog(tmp_path / "w.log", 100)
    again.write(b"x" * 90)
    assert (tmp_path / "w.log").read_bytes() == b"x" * 90


def test_a_log_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = RotatingLog(tmp_path / "file" / "w.log", 100)
    log.write(b"lost")
    assert log.dropped_bytes == 4


def test_the_instance_s_own_key_is_looked_for_in_the_container_s_environment_too(tmp_path: Path) -> None:
    first = tmp_path / "environ"
    first.write_bytes(b"PATH=/bin\0CONTAINER_ID=12\0CONTAINER_API_KEY=k\0VAST_CONTAINERLABEL=C.12\0SECRET=x\0")
    key = farewell.instance_key({"HOME": "/root"}, first)
    assert key == {"CONTAINER_ID": "12", "CONTAINER_API_KEY": "k", "VAST_CONTAINERLABEL": "C.12"}
    assert farewell.destroy_request(key) == ("https://console.vast.ai/api/v0/instances/12/", "k")
    own = {"CONTAINER_API_KEY": "own", "VAST_CONTAINERLABEL": "C.7", "VAST_URL": "http://127.0.0.1:1/"}
    request = farewell.destroy_request(farewell.instance_key(own, first))
    assert request == ("http://127.0.0.1:1/api/v0/instances/7/", "own")


def test_without_a_key_or_with_a_strange_one_there_is_no_request(tmp_path: Path) -> None:
    assert farewell.destroy_request(farewell.instance_key({}, tmp_path / "none")) is None
    assert farewell.destroy_request({"CONTAINER_ID": "../1", "CONTAINER_API_KEY": "k"}) is None
    assert farewell.destroy_request({"CONTAINER_ID": "1", "CONTAINER_API_KEY": "k\r\nX: y"}) is None
    assert farewell.destroy_request({"CONTAINER_ID": "1", "CONTAINER_API_KEY": "k", "VAST_URL": "file:///"}) is None


def test_a_destroy_is_accepted_or_needless_or_to_be_asked_for_again() -> None:
    assert farewell.accepted(200, b'{"success": true}')
    assert farewell.accepted(404, b'{"success": false, "error": "no_such_instance"}')
    assert not farewell.accepted(200, b'{"success": false}')
    assert not farewell.accepted(404, b'{"error": "auth_error"}')
    assert not farewell.accepted(429, b"API requests too frequent")
    assert not farewell.accepted(200, b"[]")
