"""The commands that look: search, ls, show, logs, operations, operation, version, completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dumont.cli.main import cli
from tests.unit.cli_world import NOW, World, instance, machine, offer, operation, output, step

NO_RECORD = {"local up", "openapi"}
"""One stays until it is ended, the other prints nothing but JSON."""
RANKED = {"offer": offer(), "finish_usd": 0.35, "price_usd_per_hour": 0.3128}


def test_search_shows_a_table_of_offers_and_how_many_more_there_are(api: World) -> None:
    api.says("GET /search", {"offers": [RANKED], "count": 14, "query": {}})
    result = api.run("search", "--gpu", "RTX 4090")
    assert result.exit_code == 0
    head, row = result.stdout.splitlines()
    assert head.startswith("GPU")
    for shown in ("RTX 4090", "24 GiB", "$0.3128", "$0.35", "99.1%", "Sweden, SE", "vast:101"):
        assert shown in row
    assert "1 of 14 that pass" in result.stderr


def test_search_sends_each_filter_by_the_apis_own_name(api: World) -> None:
    api.says("GET /search", {"offers": [], "count": 0, "query": {}})
    filters = "--max-price 0.4 --min-vram 24 --count 2 --min-reliability 0.98 --region SE --disk 50 --hours 3 --limit 5"
    more = "--interruptible --unverified --min-download 200 --min-upload 50 --min-cuda 12.1"
    assert api.run("search", "--gpu", "RTX 4090", *filters.split(), *more.split()).exit_code == 0
    assert api.query("GET /search") == {
        "gpu": "RTX 4090",
        "max_price_usd_per_hour": "0.4",
        "min_vram_gib": "24.0",
        "gpu_count": "2",
        "min_reliability": "0.98",
        "region": "SE",
        "disk_gb": "50.0",
        "job_hours": "3.0",
        "limit": "5",
        "interruptible": "true",
        "verified_only": "false",
        "min_download_mbps": "200.0",
        "min_upload_mbps": "50.0",
        "min_cuda": "12.1",
    }


def test_search_leaves_what_was_not_asked_for_to_the_api(api: World) -> None:
    api.says("GET /search", {"offers": [], "count": 0, "query": {}})
    result = api.run("search")
    assert api.query("GET /search") == {}
    assert result.stdout == ""
    assert "no offer passes" in result.stderr


def test_what_an_offer_does_not_say_is_a_dash_and_not_zero(api: World) -> None:
    bare = {"provider": "vast", "id": "1", "gpu": "L4", "gpu_usd_per_hour": 0.2}
    api.says("GET /search", {"offers": [{"offer": bare, "price_usd_per_hour": 0.2}], "count": 1})
    row = api.run("search").stdout.splitlines()[1]
    assert row.split("  ")[0] == "L4"
    assert row.count("–") == 8


def test_json_is_what_the_api_said_and_alone_on_stdout(api: World) -> None:
    answer = {"offers": [RANKED], "count": 14, "query": {"gpu": "RTX 4090"}}
    api.says("GET /search", answer)
    result = api.run("search", "--json")
    assert output(result) == answer
    assert result.stderr == ""


def test_ls_shows_machines_with_state_price_and_address(api: World) -> None:
    api.says("GET /machines", {"machines": [machine()]})
    result = api.run("ls")
    row = result.stdout.splitlines()[1]
    for shown in ("trainer", "running", "RTX 4090", "$0.3128", "$0.0123", "root@203.0.113.7:40022"):
        assert shown in row
    assert api.query("GET /machines") == {}
    api.run("ls", "--all")
    assert api.query("GET /machines") == {"all": "true"}


def test_what_is_paused_is_not_called_lost_nor_running(api: World) -> None:
    asleep = machine(state="hibernated", paused_instance_id="i-1", slept_at=NOW, ssh=None)
    host = instance("a", state="lost", price_usd_per_hour=0.3128, problem={"code": "asleep", "detail": "it sleeps"})
    api.says("GET /machines", {"machines": [asleep]})
    assert api.run("ls").stdout.splitlines()[1].split()[:2] == ["trainer", "paused"]
    api.says("GET /machines/trainer", {"machine": asleep, "instances": [host]})
    text = api.run("show", "trainer").stdout
    assert "lost" not in text
    assert "running for" not in text
    assert "is kept with its stopped host, and bills" in text
    assert "$0.3128" in text.splitlines()[-1], "GPU and disk, as in `search` and `ls`"
    gone = machine(state="hibernated", paused_instance_id=None, slept_at=NOW, ssh=None)
    api.says("GET /machines", {"machines": [gone]})
    assert api.run("ls").stdout.splitlines()[1].split()[:2] == ["trainer", "hibernated"]


def test_each_commands_summary_fits_the_list_of_commands() -> None:
    """At 80 columns, as most terminals have; one that is cut ends with an ellipsis."""

    def cut(group: click.Group, path: str) -> Iterator[str]:
        room = 80 - 2 - 6  # click's margin, and the blanks around a command's name
        for name, command in group.commands.items():
            if not command.hidden and command.get_short_help_str(limit=room - max(map(len, group.commands))).endswith(
                "..."
            ):
                yield f"{path} {name}"
            if isinstance(command, click.Group):
                yield from cut(command, f"{path} {name}")

    assert list(cut(cli, "dumont")) == []


def test_ls_of_nothing_says_so(api: World) -> None:
    api.says("GET /machines", {"machines": []})
    assert "no machines" in api.run("ls").stderr
    assert output(api.run("ls", "--json")) == {"machines": []}


def test_show_tells_all_that_is_known_of_a_machine(api: World) -> None:
    proof = {
        "checks": [{"name": "ssh", "ok": True, "seconds": 0.42, "seen": "ssh-ed25519"}],
        "gpus": [{"model": "NVIDIA GeForce RTX 4090", "vram_mib": 24564, "driver_version": "550.54"}],
    }
    rentals = [instance("a", state="gone", problem={"code": "lost", "detail": "another won"}), instance("b")]
    seen = machine(proof=proof, spec={"gpu": "RTX 4090", "budget_usd": 5.0})
    api.says("GET /machines/trainer", {"machine": seen, "instances": rentals})
    text = api.run("show", "trainer").stdout
    for shown in ("ssh-ed25519 AAAAhost", "0.42", "NVIDIA GeForce RTX 4090, 24,564 MiB, driver 550.54", "another won"):
        assert shown in text
    assert "$5.00: reaching it destroys the machine" in text
    assert output(api.run("show", "trainer", "--json"))["machine"] == seen


def test_show_of_a_failed_machine_tells_why_what_is_safe_and_what_next(api: World) -> None:
    why = {"code": "no_offers", "detail": "no offer passed", "safe": "Nothing bills.", "hint": "raise --max-price"}
    api.says("GET /machines/trainer", {"machine": {"name": "trainer", "state": "failed", "failure": why}})
    text = api.run("show", "trainer").stdout
    assert all(words in text for words in ("no offer passed", "Nothing bills.", "raise --max-price"))


def test_logs_are_printed_as_they_are(api: World) -> None:
    api.says("GET /machines/trainer/logs", {"machine": "trainer", "lines": ["booting", "up 100%"]})
    assert api.run("logs", "trainer", "--tail", "2").stdout == "booting\nup 100%\n"
    assert api.query("GET /machines/trainer/logs") == {"tail": "2"}
    assert output(api.run("logs", "trainer", "--json"))["lines"] == ["booting", "up 100%"]


def test_operations_are_listed_of_all_or_of_one_machine(api: World) -> None:
    api.says("GET /operations", {"operations": [operation(state="succeeded", ended_at=NOW + 3)]})
    row = api.run("operations", "trainer").stdout.splitlines()[1]
    assert all(shown in row for shown in ("op-1", "provision", "succeeded", "3.00 s", "$0.0021"))
    assert api.query("GET /operations") == {"machine": "trainer", "limit": "20"}
    api.run("operations", "--limit", "3")
    assert api.query("GET /operations") == {"limit": "3"}
    assert output(api.run("operations", "--json"))["operations"][0]["id"] == "op-1"


def test_an_operation_is_shown_with_its_steps_and_rentals(api: World) -> None:
    rental = instance("a", state="gone", created_at=NOW + 1, booted_at=NOW + 9)
    steps = [step("boot", 1, 9, instance_id=rental["id"]), step("ssh", 9, 10, ok=False, detail="refused")]
    api.says("GET /operations/op-1", {"operation": operation(state="failed", steps=steps, instances=[rental])})
    text = api.run("operation", "op-1").stdout
    assert all(shown in text for shown in ("boot", "8.00", "failed", "refused", "A "))
    assert output(api.run("operation", "op-1", "--json"))["operation"]["steps"] == steps


def test_watching_an_operation_ends_with_its_outcome(api: World) -> None:
    api.says("GET /operations/op-1", {"operation": operation()}, {"operation": operation(state="succeeded")})
    assert api.run("operation", "op-1", "--watch").exit_code == 0
    failed = operation(state="failed", problem={"code": "no_offers", "detail": "no offer passed"})
    api.says("GET /operations/op-1", {"operation": operation()}, {"operation": failed})
    assert api.run("operation", "op-1", "--watch").exit_code == 1


def test_version_is_told(api: World) -> None:
    assert api.run("version").stdout.startswith("dumont 0.")
    assert set(output(api.run("version", "--json"))) == {"dumont"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_and_how_to_install_it(api: World, shell: str) -> None:
    script = api.run("completion", shell).stdout
    assert "_DUMONT_COMPLETE" in script
    assert "# To install: dumont completion" in script
    assert output(api.run("completion", shell, "--json"))["shell"] == shell


def test_machine_names_complete(api: World) -> None:
    api.says("GET /machines", {"machines": [machine(), machine(name="tester"), machine(name="web")]})
    asked = {"_DUMONT_COMPLETE": "bash_complete", "COMP_WORDS": "dumont show t", "COMP_CWORD": "2"}
    assert api.run(**asked).stdout.split() == ["plain,tester", "plain,trainer"]


def test_without_an_api_completion_is_empty_and_silent(api: World) -> None:
    asked = {"_DUMONT_COMPLETE": "bash_complete", "COMP_WORDS": "dumont show t", "COMP_CWORD": "2"}
    result = api.run(**asked, DUMONT_URL="http://127.0.0.1:9")
    assert result.output.strip() == ""


def every_command(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}".strip())


def test_every_command_has_help_and_takes_json() -> None:
    seen = dict(every_command(cli))
    assert {"snapshot rm", "webhook ls", "keys create", "job run"} <= seen.keys()
    for name, command in seen.items():
        assert command.help, name
        only_a_group = isinstance(command, click.Group) and not command.invoke_without_command
        if not only_a_group and name not in NO_RECORD:
            assert "--json" in {opt for parameter in command.params for opt in parameter.opts}, name


def test_help_starts_fast_because_it_imports_nothing_heavy() -> None:
    heavy = "{'httpx', 'rich', 'paramiko', 'cryptography', 'msgspec', 'flask'}"
    code = (
        f"import sys, dumont.cli.main; sys.exit(repr({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_console_script_is_installed() -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "dumont"), "--help"], capture_output=True, check=True)
    assert b"Exit status: 0 done" in done.stdout
