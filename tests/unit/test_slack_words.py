"""What people type into Slack is understood, or answered with how it would be right; nothing of it is an error."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dumont.domain.offers import OfferQuery
from dumont.domain.records import MachineSpec
from dumont.edge import requests
from dumont.edge.slack import cards, texts
from dumont.edge.slack.words import ALIASES, VERBS, Unclear, Wish, parse
from tests.block_kit import check


def wish(text: str) -> Wish:
    found = parse(text)
    assert isinstance(found, Wish), found
    return found


def unclear(text: str) -> Unclear:
    found = parse(text)
    assert isinstance(found, Unclear), found
    return found


@pytest.mark.parametrize(
    ("text", "verb", "name", "fields"),
    [
        ("", "help", "", {}),
        ("help up", "help", "", {"verb": "up"}),
        ("up --help", "help", "", {"verb": "up"}),
        ("ls", "ls", "", {}),
        ("LIST --all", "ls", "", {"all": True}),
        ("status", "status", "", {}),
        ("show Trainer", "status", "trainer", {}),
        ("ssh trainer", "ssh", "trainer", {}),
        ("search RTX 4090", "search", "", {"gpu": "RTX 4090"}),
        ("search --gpu RTX 4090 --max-price 0.4", "search", "", {"gpu": "RTX 4090", "max_price_usd_per_hour": 0.4}),
        ("search 4090 —max-price $0,40/h", "search", "", {"gpu": "4090", "max_price_usd_per_hour": 0.4}),
        ("search --region Quebec, CA --unverified", "search", "", {"region": "Quebec, CA", "verified_only": False}),
        ("search --min-reliability 98%", "search", "", {"min_reliability": 0.98}),
        ("snapshot trainer", "snapshot", "trainer", {}),
        ("failover trainer --drill", "failover", "trainer", {"drill": True}),
        ("sleep trainer --pause", "hibernate", "trainer", {"pause": True}),
        ("wake trainer", "wake", "trainer", {}),
        ("keep trainer 2h", "keep", "trainer", {"seconds": 7200.0}),
        ("keep trainer for 1 hour and 30 min", "keep", "trainer", {"seconds": 5400.0}),
        ("keep trainer", "keep", "trainer", {"seconds": 7200.0}),
        ("keep trainer off", "keep", "trainer", {"seconds": 0.0}),
        ("destroy trainer", "down", "trainer", {}),
        ("down trainer --discard", "down", "trainer", {"discard": True}),
        ("cost", "cost", "", {}),
        ("costs trainer", "cost", "trainer", {}),
        ("savings", "savings", "", {}),
        ("budget", "budget", "", {}),
        ("/dumont ls", "ls", "", {}),
    ],
)
def test_each_command_is_read(text: str, verb: str, name: str, fields: dict[str, Any]) -> None:
    assert wish(text) == Wish(verb=verb, name=name, fields=fields)


def test_a_machine_is_asked_for_in_the_cli_s_words() -> None:
    found = wish('up trainer --gpu “RTX 4090” --max-price 0.40 --disk 50GB --sleep-after 15m --run "python train.py"')
    assert found.name == "trainer"
    name, spec = requests.machine_of({"name": found.name, **found.fields})
    assert (name, spec.gpu, spec.max_price_usd_per_hour, spec.disk_gb) == ("trainer", "RTX 4090", 0.4, 50.0)
    assert (spec.idle_after_minutes, spec.run) == (15.0, "python train.py")


def test_a_gpu_may_stand_behind_the_name_and_an_option_may_be_cut_short() -> None:
    assert wish("up trainer rtx 4090 --max 0.4").fields == {"gpu": "rtx 4090", "max_price_usd_per_hour": 0.4}
    assert "--min" in unclear("up trainer rtx 4090 --min 0.4").why, "one of several is not guessed"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("search <http://trainer.ai|trainer.ai>", "trainer.ai"),
        ("search *trainer*", "trainer"),
        ("search `trainer`", "trainer"),
        ("search “RTX 4090”", "RTX 4090"),
        ("search ‘RTX 4090’", "RTX 4090"),
        ("search RTX\u00a04090", "RTX 4090"),
        ("search A &amp; B", "A & B"),
        ("search <mailto:a@b.example|a@b.example>", "a@b.example"),
        ("search <https://x.example/y>", "https://x.example/y"),
    ],
)
def test_what_phones_and_slack_make_of_words_is_undone(typed: str, meant: str) -> None:
    assert wish(typed).fields == {"gpu": meant}


def test_a_quote_without_its_pair_is_no_error() -> None:
    assert wish("status the-team's").name == "the-team's"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("statsu trainer", "/dumont status trainer"),
        ("hibernat trainer", "/dumont hibernate trainer"),
        ("serch 4090", "/dumont search 4090"),
        ("snapshto trainer", "/dumont snapshot trainer"),
        ("stop trainer", "/dumont hibernate trainer"),
    ],
)
def test_a_misspelled_command_is_guessed_and_not_run(typed: str, meant: str) -> None:
    assert meant in unclear(typed).meant


def test_a_misspelled_option_is_guessed() -> None:
    assert unclear("up trainer --gpu RTX 4090 --max-prise 0.4").meant == ("--max-price",)


@pytest.mark.parametrize(
    "typed",
    ["up", "wake", "keep", "keep trainer soon", "search --max-price cheap", "search --gpu", "down a b", "wake a --x",
     "up trainer --count 1.5", "xyzzy"],
)  # fmt: skip
def test_wrong_usage_is_explained_with_an_example(typed: str) -> None:
    found = unclear(typed)
    assert found.why
    assert found.example.startswith("/dumont ")
    check(cards.unclear(found))


def test_each_example_is_right_and_each_alias_leads_somewhere() -> None:
    for name, verb in VERBS.items():
        assert wish(verb.example).verb == name
        check(cards.help_for(name))
    assert set(ALIASES.values()) <= set(VERBS)
    assert not set(ALIASES) & set(VERBS)
    check(cards.help_for(""))


def test_options_are_fields_of_the_api() -> None:
    offered = {field.name for field in msgspec.structs.fields(OfferQuery)}
    assert {option.field for option in VERBS["search"].options.values()} <= offered
    names = set(VERBS["up"].options) - {"template", "model"}
    spec = {field.name for field in msgspec.structs.fields(MachineSpec)}
    assert {VERBS["up"].options[name].field for name in names} <= spec


_ODD = st.text(
    st.sampled_from(string.ascii_letters + string.digits + " \t\n-—–=<>|&;@#!\"'“”‘’`*_~\\/.,:%$\0\u00a0\u200b🙂é")
)
_KNOWN = [*VERBS, *ALIASES, *(f"--{name}" for verb in VERBS.values() for name in verb.options)]
_TYPED = st.lists(st.one_of(st.sampled_from(_KNOWN), _ODD), max_size=8).map(" ".join)


@given(st.one_of(st.text(max_size=300), _ODD, _TYPED))
@example("“")
@example("\\")
@example("up x --gpu '")
@example("<" * 3000)
@example("keep a " + "9" * 4000 + "h")
@example("up a --count " + "9" * 400)
def test_no_text_is_an_error_and_each_gets_an_answer_that_slack_takes(text: str) -> None:
    found = parse(text)
    if isinstance(found, Unclear):
        check(cards.unclear(found))
    else:
        assert found.verb in VERBS
        assert len(found.name) <= 100


@given(st.text(max_size=40))
def test_numbers_and_lengths_are_read_or_not(text: str) -> None:
    assert texts.number(text) is None or isinstance(texts.number(text), float)
    found = texts.seconds(text)
    assert found is None or found >= 0
