"""What Slack is answered with: cards that Slack takes, that a phone shows, and whose buttons do what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont import queries
from dumont.domain.budgets import Budget
from dumont.domain.ledger import LedgerEntry
from dumont.domain.offers import Offer, OfferQuery, RankedOffer
from dumont.domain.records import Machine, MachineState, Operation, OperationKind, Problem
from dumont.edge.slack import blocks as b
from dumont.edge.slack import cards, money
from dumont.operations import look
from dumont.operations.look import Offers
from tests.block_kit import button, buttons, check, words
from tests.unit.slack_support import NOW, OFFER, OPERATOR, Desk

EVERY = [
    "search RTX 4090", "search 4090", "up other --gpu RTX 4090", "ls", "ls --all", "status", "status trainer",
    "ssh trainer", "snapshot trainer", "failover trainer", "failover trainer --drill", "failover trainer --discard",
    "hibernate trainer", "wake asleep", "wake trainer", "keep trainer 2h", "keep trainer off", "down trainer", "cost",
    "cost trainer", "savings", "savings trainer", "budget", "help", "help up",
]  # fmt: skip


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.machine()
    made.machine("asleep", MachineState.HIBERNATED)
    return made


def operation(desk: Desk, machine: str) -> Operation:
    record = desk.store.get(Machine, machine)
    assert record is not None
    found = desk.store.get(Operation, record.operation_id or "")
    assert found is not None
    return found


# --- Commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
def test_each_command_is_answered_with_blocks_that_slack_takes(desk: Desk, text: str) -> None:
    blocks = desk.asked(text)
    check(blocks)
    assert "⚠️" not in words(blocks), words(blocks)


@pytest.mark.parametrize("text", [*EVERY, "wake trainer"])
def test_each_command_on_what_is_not_there_is_answered_too(text: str) -> None:
    check(Desk().asked(text))


def test_a_machine_is_rented_as_through_the_api(desk: Desk) -> None:
    blocks = desk.asked("up other --gpu rtx_4090 --max-price 0.40 --disk 30")
    assert "rents *other*" in words(blocks)
    made = desk.store.get(Machine, "other")
    assert made is not None
    assert (made.spec.gpu, made.spec.max_price_usd_per_hour, made.spec.disk_gb) == ("RTX 4090", 0.4, 30)
    assert operation(desk, "other").kind is OperationKind.PROVISION
    assert desk.bus.sent[-1] == ("dumont-provision", {"operation_id": operation(desk, "other").id})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("up other --gpu RTX 4091", "did you mean"),
        ("up other", "say which GPU"),
        ("up trainer --gpu RTX 4090", "There is a machine named trainer already"),
        ("up Not_A_Name --gpu RTX 4090", "name starts with a letter"),
        ("up other --gpu RTX 4090 --disk 2", "--disk"),
        ("status nobody", "There is no machine named nobody"),
        ("wake nobody", "`/dumont ls` shows those there are"),
        ("hibernate asleep", "not running"),
        ("ssh asleep", "nowhere to log in"),
        ("keep asleep 2h", "sleeps"),
    ],
)
def test_what_cannot_be_is_said_with_a_way_on(desk: Desk, text: str, says: str) -> None:
    blocks = desk.asked(text)
    check(blocks)
    assert says.lower() in words(blocks).lower()


def test_a_market_that_does_not_answer_is_said(desk: Desk) -> None:
    desk.market.down = True
    assert "market" in words(desk.asked("search RTX 4090"))


def test_keep_counts_from_now(desk: Desk) -> None:
    desk.asked("keep trainer 90 minutes")
    kept = desk.store.get(Machine, "trainer")
    assert kept is not None
    assert kept.keep_until == NOW + 5400
    assert "kept awake for 1 h 30 min" in words(desk.asked("status trainer"))


def test_money_is_told(desk: Desk) -> None:
    entry = LedgerEntry(
        id="e", machine="trainer", instance_id="x", operation_id="o", provider="vast", gpu="RTX 4090", kind="gpu",
        amount_micro_usd=1_500_000, usd_per_hour=0.3, from_time=NOW - 20_000, to_time=NOW - 2_000, written_at=NOW,
        day="2027-01-15", state="running",
    )  # fmt: skip
    desk.put(entry, Budget(id="all", usd_per_day=2.0))
    assert "trainer" in words(desk.asked("cost"))
    assert "▓" in words(desk.asked("budget"))
    assert "aws" in words(desk.asked("savings")).lower()


# --- Buttons ------------------------------------------------------------------------------------------------------


def pressed(desk: Desk, found: dict[str, Any]) -> list[dict[str, Any]]:
    desk.press(found)
    (said,) = desk.work()
    check(said.blocks)
    return list(said.blocks)


@pytest.mark.parametrize(
    ("name", "action", "kind"),
    [
        ("asleep", "wake", OperationKind.WAKE),
        ("trainer", "sleep", OperationKind.HIBERNATE),
        ("trainer", "snapshot", OperationKind.SNAPSHOT),
        ("trainer", "destroy", OperationKind.DESTROY),
    ],
)
def test_a_card_s_buttons_begin_operations(desk: Desk, name: str, action: str, kind: OperationKind) -> None:
    said = pressed(desk, button(desk.asked(f"status {name}"), f"machine.{action}"))
    assert f"<@{OPERATOR}>" in words(said)
    assert operation(desk, name).kind is kind


def test_keep_2_h_does_and_destroy_alone_of_a_card_s_buttons_asks(desk: Desk) -> None:
    card = desk.asked("status trainer")
    pressed(desk, button(card, "machine.keep"))
    kept = desk.store.get(Machine, "trainer")
    assert kept is not None
    assert kept.keep_until == NOW + 7200
    assert [found["action_id"] for found in buttons(card) if "confirm" in found] == ["machine.destroy"]
    assert button(card, "machine.destroy")["style"] == "danger"


def test_down_asks_first_and_each_way_down_is_what_it_says(desk: Desk) -> None:
    asked = desk.asked("down trainer --discard")
    assert desk.store.find(Operation, queries.latest_operations()) == [], "typed is not yet done"
    for action, discard, first in (
        ("destroy_lost", True, False),
        ("destroy_saved", False, True),
        ("destroy", False, False),
    ):
        fresh = Desk()
        fresh.machine()
        found = button(asked, f"machine.{action}")
        assert found["confirm"]
        pressed(fresh, found)
        op = operation(fresh, "trainer")
        assert (op.kind, op.discard, op.snapshot_first) == (OperationKind.DESTROY, discard, first)


@pytest.mark.parametrize("flag", ["", " --drill", " --discard"])
def test_failover_asks_first(desk: Desk, flag: str) -> None:
    asked = desk.asked(f"failover trainer{flag}")
    yes = buttons(asked)[0]
    assert yes["confirm"]
    assert desk.bus.sent == []
    desk.put(replace(desk.machine(), running_since=NOW - 1000))
    desk.press(yes)
    desk.work()


@pytest.mark.parametrize("action", ["destroy", "destroy_lost", "destroy_saved", "sleep", "snapshot", "move", "keep"])
def test_an_old_card_does_nothing_to_what_has_come_since(desk: Desk, action: str) -> None:
    old = {"action_id": f"machine.{action}", "value": json.dumps({"m": "trainer", "e": 1})}
    desk.machine(epoch=3)
    before = desk.store.get(Machine, "trainer")
    said = pressed(desk, old)
    assert "That card was old" in words(said)
    assert desk.store.get(Machine, "trainer") == before
    assert desk.bus.sent == []
    assert json.loads(button(said, "machine.refresh")["value"])["e"] == 3, "the card in its place is fresh"


def test_a_machine_that_moves_between_the_look_and_the_act_is_not_destroyed(desk: Desk) -> None:
    from dumont.domain.errors import Conflict
    from dumont.operations import destroy

    with pytest.raises(Conflict) as refused:
        destroy.request(desk.ports, "trainer", discard=True, requested_by="ada", epoch=2)
    assert refused.value.code == "moved_on"
    _, op = destroy.request(desk.ports, "trainer", discard=True, requested_by="ada", epoch=1)
    assert op.kind is OperationKind.DESTROY


def test_an_offer_is_rented_by_its_button_at_no_more_than_it_showed(desk: Desk) -> None:
    found = button(desk.asked("search RTX 4090"), "offer.rent")
    assert "$0.303" in found["confirm"]["text"]["text"]
    held = json.loads(found["value"])
    assert "rents" in words(pressed(desk, found))
    made = desk.store.get(Machine, held["name"])
    assert made is not None
    most = made.spec.max_price_usd_per_hour or 0.0
    assert OFFER.total_usd_per_hour(20) <= most <= OFFER.total_usd_per_hour(20) * 1.01
    assert "already" in words(pressed(desk, found)), "pressed twice is once"


@pytest.mark.parametrize("value", ["", "[]", "{", '{"m": 7}', '{"m": "../x", "e": 1}', "[" * 2000, '{"name": {}}'])
@pytest.mark.parametrize("action", ["machine.destroy", "offer.rent", "machine.show", "nothing.known"])
def test_a_button_that_is_not_ours_does_nothing(desk: Desk, action: str, value: str) -> None:
    desk.press({"action_id": action, "value": value})
    (said,) = desk.work()
    check(said.blocks)
    assert desk.bus.sent == []


# --- Cards --------------------------------------------------------------------------------------------------------

HOSTILE = "<!channel> *bold* `code` & <https://evil.example|click> \0\n" + "x" * 5000


@pytest.mark.parametrize("state", list(MachineState))
def test_a_card_of_each_state_is_one_that_slack_takes(state: MachineState) -> None:
    desk = Desk()
    desk.machine(state=state, failure=Problem(code="x", detail=HOSTILE, safe=HOSTILE, hint=HOSTILE))
    check(cards.machine(look.machine(desk.ports, "trainer"), "note"))
    check(desk.asked("ls"))


def test_what_hosts_name_is_text_and_nothing_else(desk: Desk) -> None:
    offer = replace(OFFER, gpu=HOSTILE, region=HOSTILE, provider=HOSTILE)
    offers = Offers(
        offers=[RankedOffer(offer=offer, finish_usd=1.0, price_usd_per_hour=0.3)], count=1, query=OfferQuery(),
        unanswered=(HOSTILE,),
    )  # fmt: skip
    blocks = cards.offers(offers, ["a-name"])
    check(blocks)
    assert "&lt;!channel&gt;" in words(blocks)
    desk.machine(host_key=HOSTILE)
    check(desk.asked("ssh trainer"))


def test_many_machines_are_one_message() -> None:
    desk = Desk()
    for number in range(120):
        desk.machine(f"m{number}")
    blocks = desk.asked("ls")
    check(blocks)
    assert "100 more" in words(blocks)


@given(st.text(max_size=4000), st.integers(1, 400))
def test_escaped_text_is_never_markup_and_never_too_long(text: str, most: int) -> None:
    found = b.escaped(text, most)
    assert not set("<>") & set(found)
    assert len(found.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")) <= most
    check([b.section(found * 20), b.context(b.code(text)), *b.actions([b.button(text, "a.b", "v")])])
    check([b.header(text), b.section("x", button=b.button("y", "a", "v", confirm=b.confirm(text, text, text)))])


@given(st.integers(0, 200))
def test_a_message_has_no_more_blocks_than_slack_takes(count: int) -> None:
    assert len(b.message([b.divider()] * count)) <= 50


@given(
    st.lists(
        st.builds(
            Offer, provider=st.text(max_size=9), id=st.text(max_size=9), gpu=st.text(min_size=1, max_size=200),
            gpu_usd_per_hour=st.floats(0, 1e6), region=st.none() | st.text(max_size=200),
            reliability=st.none() | st.floats(0, 1), vram_gib=st.none() | st.floats(0, 1e6),
            download_mbps=st.none() | st.floats(0, 1e9), interruptible=st.booleans(),
        ), max_size=8,
    )
)  # fmt: skip
def test_whatever_is_offered_can_be_shown(offered: list[Offer]) -> None:
    ranked = [RankedOffer(offer=o, finish_usd=1.0, price_usd_per_hour=o.gpu_usd_per_hour) for o in offered]
    check(cards.offers(Offers(offers=ranked, count=len(ranked), query=OfferQuery()), ["n"] * len(ranked)))


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, "░" * 10), (0.41, "▓▓▓▓░"), (1.0, "▓" * 10), (7.0, "700 %"), (-1.0, "░")]
)
def test_a_share_is_a_bar(share: float, shown: str) -> None:
    assert shown in money.bar(share)
