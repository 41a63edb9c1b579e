"""The machine's state table: the one place that says which state may follow which."""

from __future__ import annotations

from dumont.domain.errors import Conflict, IllegalTransition
from dumont.domain.records import Machine
from dumont.domain.records import MachineState as S

TRANSITIONS: dict[S, frozenset[S]] = {
    S.REQUESTED: frozenset({S.PROVISIONING, S.DESTROYING, S.FAILED}),
    S.PROVISIONING: frozenset({S.RUNNING, S.DESTROYING, S.FAILED}),
    S.RUNNING: frozenset({S.FAILING_OVER, S.HIBERNATING, S.DESTROYING, S.FAILED}),
    S.FAILING_OVER: frozenset({S.RUNNING, S.DESTROYING, S.FAILED}),
    S.HIBERNATING: frozenset({S.HIBERNATED, S.RUNNING, S.DESTROYING, S.FAILED}),
    S.HIBERNATED: frozenset({S.WAKING, S.DESTROYING, S.FAILED}),
    S.WAKING: frozenset({S.RUNNING, S.HIBERNATED, S.DESTROYING, S.FAILED}),
    S.DESTROYING: frozenset({S.DESTROYED, S.FAILED}),
    # The way out of both ends: the same name asked for again starts anew, one epoch on.
    S.DESTROYED: frozenset({S.REQUESTED}),
    S.FAILED: frozenset({S.REQUESTED, S.DESTROYING}),
}

NAME_IS_FREE = frozenset({S.DESTROYED, S.FAILED})


def check_transition(before: S, after: S) -> None:
    """Raise `IllegalTransition` unless `after` may follow `before` (staying is no transition and always allowed)."""
    if before is not after and after not in TRANSITIONS[before]:
        raise IllegalTransition(f"a machine that is {before} cannot become {after}")


def is_as_judged(judged: Machine, now_is: Machine) -> bool:
    """Whether a machine is the one that was judged, and no other of its name, and in the same state."""
    return (now_is.created_at, now_is.state) == (judged.created_at, judged.state)


def not_running(name: str, state: S) -> Conflict:
    """The refusal of what only a machine that runs can do, with the way to make it run."""
    hints = {
        S.HIBERNATED: f"wake it: dumont wake {name}",
        S.DESTROYED: f"rent it anew: dumont up {name}",
        S.FAILED: f"see why: dumont show {name}",
    }
    hint = hints.get(state, f"wait until it does: dumont events {name} -f")
    return Conflict(f"{name} is {state.value}, not running", code="not_running", field="name", hint=hint)
