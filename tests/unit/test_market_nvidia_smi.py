"""The simulated machines' nvidia-smi."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dumont.local.machine.__main__ import ONE_GPU
from dumont.local.machine.folder import Gpu, MachineFolder, MachineSpec


@pytest.fixture
def folder(tmp_path: Path) -> MachineFolder:
    made = MachineFolder(tmp_path / "machine with a space")
    other = Gpu(
        name="NVIDIA A40",
        uuid="GPU-2",
        driver_version="550.54.15",
        cuda_version="12.4",
        memory_mib=46068,
        watts=300,
        compute_cap="8.6",
        bus_id="00000000:02:00.0",
    )
    made.prepare(MachineSpec(gpus=(ONE_GPU, other)))
    return made


def nvidia_smi(folder: MachineFolder, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [folder.programs / "nvidia-smi", *arguments], capture_output=True, text=True, check=False, env={}
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_queries_answer_in_csv_as_the_real_one(folder: MachineFolder) -> None:
    query = "--query-gpu=name,memory.total,utilization.gpu,power.draw,compute_cap"
    assert nvidia_smi(folder, query, "--format=csv") == (
        0,
        "name, memory.total [MiB], utilization.gpu [%], power.draw [W], compute_cap\n"
        "NVIDIA GeForce RTX 4090, 24564 MiB, 0 %, 22.50 W, 8.9\n"
        "NVIDIA A40, 46068 MiB, 0 %, 15.00 W, 8.6\n",
    )
    assert nvidia_smi(folder, query, "--format=csv,noheader,nounits", "-i", "1") == (
        0,
        "NVIDIA A40, 46068, 0, 15.00, 8.6\n",
    )


def test_every_field_that_monitors_ask_for_is_known(folder: MachineFolder) -> None:
    fields = (
        "name,uuid,driver_version,memory.total,memory.used,memory.free,utilization.gpu,utilization.memory,"
        "temperature.gpu,power.draw,power.limit,pci.bus_id,count,index,pstate,compute_cap,timestamp"
    )
    status, text = nvidia_smi(folder, "--query-gpu", fields, "--format", "csv,noheader")
    assert status == 0
    assert [len(line.split(", ")) for line in text.splitlines()] == [17, 17]


def test_gpus_are_listed_with_their_ids(folder: MachineFolder) -> None:
    assert nvidia_smi(folder, "-L")[1].splitlines() == [
        f"GPU 0: NVIDIA GeForce RTX 4090 (UUID: {ONE_GPU.uuid})",
        "GPU 1: NVIDIA A40 (UUID: GPU-2)",
    ]


def test_the_plain_table_names_driver_gpus_and_memory_in_straight_columns(folder: MachineFolder) -> None:
    status, text = nvidia_smi(folder)
    assert status == 0
    for expected in ("Driver Version: 560.35.05", "CUDA Version: 12.6", "NVIDIA GeForce RTX 4090", "46068MiB"):
        assert expected in text
    assert {len(line) for line in text.splitlines()[1:]} == {91}


def test_no_process_computes(folder: MachineFolder) -> None:
    asked = ("--query-compute-apps=pid,process_name,used_memory",)
    assert nvidia_smi(folder, *asked, "--format=csv") == (0, "pid, process_name, used_memory [MiB]\n")
    assert nvidia_smi(folder, *asked, "--format=csv,noheader") == (0, "")


def test_load_is_shown_if_the_folder_says_so(folder: MachineFolder) -> None:
    (folder.path / "gpu_load").write_text("97 20000\n")
    query = ("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")
    assert nvidia_smi(folder, *query) == (0, "97, 20000\n0, 1\n")


def test_without_a_driver_it_fails_as_the_real_one_does(folder: MachineFolder) -> None:
    folder.no_gpu_mark.touch()
    status, text = nvidia_smi(folder)
    assert status == 9
    assert text == (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--query-gpu=foo", "--format=csv"], 2, 'Field "foo" is not a valid field to query.'),
        (["--query-gpu=name"], 2, "--format"),
        (["--nonsense"], 2, "--nonsense"),
        (["-i", "7"], 6, "No devices were found"),
    ],
)
def test_what_it_does_not_understand_it_says(
    folder: MachineFolder, arguments: list[str], status: int, text: str
) -> None:
    got, output = nvidia_smi(folder, *arguments)
    assert got == status
    assert text in output
