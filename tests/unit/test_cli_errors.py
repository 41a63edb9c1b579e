"""How the command line fails: by a documented status, in words that help, without a traceback, in JSON if asked."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dumont.cli.main import cli
from tests.contract.scripted_http import Said, said
from tests.unit.cli_world import KEY, World, machine, output, problem


def nobody() -> str:
    """A URL of this machine at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://localhost:{probe.getsockname()[1]}"


def test_without_a_local_cloud_it_says_how_to_start_one(api: World) -> None:
    url = nobody()
    result = api.run("ls", "--url", url)
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: no local cloud answers at {url}\n  next: start it with `dumont local up`, or set DUMONT_URL\n"
    )
    told = output(api.run("ls", "--url", url, "--json"))
    assert told["code"] == "unreachable"
    assert "dumont local up" in told["hint"]


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(400, 2), (401, 3), (403, 3), (404, 4), (405, 2), (409, 5), (413, 2), (429, 3), (500, 3), (503, 3)],
)
def test_each_status_of_the_api_has_its_exit_status(api: World, status: int, exit_code: int) -> None:
    api.says("GET /machines", problem(status, "some_code", "what happened", hint="what to do"))
    result = api.run("ls")
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert "error: what happened" in result.stderr
    assert "next: what to do" in result.stderr


def test_a_problem_goes_to_stdout_whole_with_json(api: World) -> None:
    api.says("GET /machines", problem(400, "invalid_input", "too low", field="limit", request_id="req-1"))
    told = output(api.run("ls", "--json"))
    assert told["status"] == 400
    assert told["request_id"] == "req-1"
    assert told["field"] == "limit"


def test_the_field_at_fault_is_named(api: World) -> None:
    api.says("GET /search", problem(400, "invalid_input", "must be above 0", field="max_price_usd_per_hour"))
    told = api.run("search", "--max-price", "-1").stderr
    assert told == "error: --max-price: must be above 0\n  next: Per hour, GPU and disk.\n", "as it was typed"
    api.says("GET /search", problem(400, "invalid_input", "is too strange", field="weather"))
    assert "error: weather: is too strange" in api.run("search").stderr


def test_a_port_that_is_none_is_wrong_usage_and_no_defect(api: World) -> None:
    for option in ("--port", "--market-port"):
        result = api.run("local", "up", option, "99999")
        assert result.exit_code == 2
        assert "99999 is not in the range" in result.stderr


def test_a_budget_without_a_limit_is_told_its_options(api: World) -> None:
    told = api.run("budget", "set", "--action", "warn")
    assert told.exit_code == 2
    assert "--per-hour, --per-day or --total" in told.stderr


def test_a_wrong_key_of_the_environment_is_named_as_such(api: World) -> None:
    """A variable that was set once and forgotten is hard to see."""
    api.says("GET /machines", problem(401, "wrong_key", "the API key is wrong", hint="send it as a header"))
    assert "next: it is that of DUMONT_API_KEY" in api.run("ls").stderr


def test_what_is_not_dumont_is_recognised(api: World) -> None:
    api.says("GET /machines", Said(200, b"<html>hello</html>"))
    result = api.run("ls")
    assert result.exit_code == 3
    assert "it is not Dumont" in result.stderr
    api.says("GET /machines", Said(502, b"bad gateway"))
    assert "is in trouble" in api.run("ls").stderr


def test_a_lost_answer_to_a_change_is_not_sent_again(api: World) -> None:
    api.says("POST /provision", Said(200, None))
    result = api.run("up", "trainer")
    assert result.exit_code == 3
    assert "it may have been taken all the same: look with `dumont ls` first" in result.stderr
    assert len(api.asked) == 1


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://me:secret@host", "http://host:99999"])
def test_a_url_that_is_none_is_refused(api: World, url: str) -> None:
    result = api.run("ls", "--url", url)
    assert result.exit_code == 2
    assert "is not the URL of an API" in result.stderr


def test_wrong_usage_is_status_2_in_json_too(api: World) -> None:
    assert api.run("show").exit_code == 2
    assert api.run("nonsense").exit_code == 2
    told = output(api.run("show", "--json"))
    assert told["code"] == "usage"
    assert "NAME" in told["detail"]


def test_the_key_comes_from_the_environment_or_else_from_the_file(api: World) -> None:
    api.says("GET /machines", {"machines": [machine()]})
    without = api.run("ls", key=None)
    assert without.exit_code == 3
    assert "set DUMONT_API_KEY" in without.stderr
    folder = api.folder / "config" / "dumont"
    folder.mkdir(parents=True)
    (folder / "credentials.json").write_text(f'{{"{api.url.replace("127.0.0.1", "localhost")}": "{KEY}"}}')
    assert api.run("ls", key=None).exit_code == 0
    assert api.run("ls", key="dmt_wrong").exit_code == 3


def test_a_key_with_a_line_break_after_it_is_the_key(api: World) -> None:
    api.says("GET /machines", {"machines": []})
    assert api.run("ls", key=f"{KEY}\n").exit_code == 0


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY}é", "\x1b"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(api: World, key: str) -> None:
    result = api.run("ls", key=key)
    assert result.exit_code == 2
    assert "error: the API key has characters that no key has" in result.stderr
    assert KEY not in result.output
    assert api.asked == []


@pytest.mark.parametrize(
    "command",
    [
        ["show", ".."],
        ["operation", ""],
        ["webhook", "set", "", "--to", "https://hook.example.com"],
        ["webhook", "rm", ""],
        ["gateway", "token", ".."],
        ["keys", "revoke", "."],
        ["snapshot", "rm", ""],
        ["job", "show", ""],
    ],
)
def test_a_name_that_would_make_another_path_is_not_asked_for(api: World, command: list[str]) -> None:
    result = api.run(*command)
    assert result.exit_code == 2, result.output
    assert "names nothing" in result.stderr
    assert api.asked == []


@pytest.mark.parametrize("command", [["budget", "rm", ""], ["budget", "set", " ", "--per-day", "5"], ["down", ""]])
def test_an_empty_machine_is_not_all_of_them(api: World, command: list[str]) -> None:
    result = api.run(*command)
    assert result.exit_code == 2, result.output
    assert "names no machine" in result.stderr
    assert api.asked == []


@pytest.mark.parametrize(
    "command",
    [["budget", "set", "--per-day", "nan"], ["token", "--minutes", "nan"], ["keys", "create", "x", "--valid-days=nan"]],
)
def test_what_is_no_number_is_wrong_usage(api: World, command: list[str]) -> None:
    result = api.run(*command)
    assert result.exit_code == 2, result.output
    assert "nan is no amount" in result.stderr
    assert api.asked == []


@pytest.mark.parametrize("option", ["--port", "--market-port"])
@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_that_is_none_is_wrong_usage(api: World, option: str, port: str) -> None:
    result = api.run("local", "up", option, port)
    assert result.exit_code == 2
    assert "is not in the range" in result.stderr


def test_one_port_for_both_is_wrong_usage(api: World) -> None:
    result = api.run("local", "up", "--port", "8070", "--market-port", "8070")
    assert result.exit_code == 2
    assert "--port and --market-port are the same" in result.stderr


def test_each_command_takes_json_but_the_one_that_stays() -> None:
    def without(command: click.Command, name: str) -> list[str]:
        if isinstance(command, click.Group):
            return [found for key, part in command.commands.items() for found in without(part, f"{name} {key}")]
        return [] if any("--json" in parameter.opts for parameter in command.params) else [name.strip()]

    assert without(cli, "") == ["local up"]


def test_a_defect_of_ours_is_no_traceback_either(tmp_path: Path) -> None:
    code = "import sys, dumont.cli.main as m; m.cli.main = lambda: 1 / 0; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a defect in dumont itself: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_said_plainly(api: World) -> None:
    (api.folder / "config").write_text("a file where a folder should be")
    result = api.run("up", "trainer")
    assert result.exit_code == 1
    assert "error: this machine refused it" in result.stderr


def test_an_answer_with_nothing_in_it_breaks_nothing(api: World) -> None:
    empty = said(200, {})
    for request in ("/search", "/machines", "/machines/x", "/machines/x/logs", "/operations", "/operations/y"):
        api.says(f"GET {request}", empty)
    for command in (["search"], ["ls"], ["show", "x"], ["logs", "x"], ["operations"], ["operation", "y"]):
        result = api.run(*command)
        assert result.exit_code == 0, (command, result.output)


def test_nothing_is_coloured_in_a_pipe(api: World) -> None:
    api.says("GET /machines", {"machines": [machine()]})
    assert "\x1b" not in api.run("ls").output
