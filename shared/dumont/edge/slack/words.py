"""`/dumont …`: what a command asks for, in the words of the command line, forgiving of spelling. Pure; never raises."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import msgspec

from dumont.edge.slack import texts

Kind = Literal["text", "number", "whole", "share", "minutes", "flag", "unflag", "many"]


class Option(msgspec.Struct, frozen=True):
    """An option: the API's field, and how its value is read."""

    field: str
    kind: Kind


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """A command: what it is for, how it is used, for example."""

    what: str
    usage: str
    example: str
    name: Literal["needed", "optional", "none"] = "none"
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    changes: bool = False
    """It needs an operator."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A command understood: its verb, the machine it names ("" for none), its options by the API's fields."""

    verb: str
    name: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Unclear(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was not understood: why, and how it would be right."""

    why: str
    verb: str = ""
    example: str = "/dumont help"
    meant: tuple[str, ...] = ()
    """Whole commands that may have been meant."""


_OFFERS: dict[str, Option] = {
    "gpu": Option("gpu", "text"),
    "count": Option("gpu_count", "whole"),
    "max-price": Option("max_price_usd_per_hour", "number"),
    "min-vram": Option("min_vram_gib", "number"),
    "min-reliability": Option("min_reliability", "share"),
    "min-download": Option("min_download_mbps", "number"),
    "min-cuda": Option("min_cuda", "number"),
    "region": Option("region", "text"),
    "disk": Option("disk_gb", "number"),
    "hours": Option("job_hours", "number"),
    "interruptible": Option("interruptible", "flag"),
    "unverified": Option("verified_only", "unflag"),
}
_MACHINE: dict[str, Option] = _OFFERS | {
    "image": Option("image", "text"),
    "workspace": Option("workspace", "text"),
    "race": Option("race_width", "whole"),
    "run": Option("run", "text"),
    "budget": Option("budget_usd", "number"),
    "snapshot-every": Option("snapshot_every_minutes", "minutes"),
    "sleep-after": Option("idle_after_minutes", "minutes"),
    "template": Option("template", "text"),
    "model": Option("model", "text"),
    "ssh-key": Option("ssh_public_keys", "many"),
}

VERBS: dict[str, Verb] = {
    "search": Verb(what="find offers, best first", usage="search [GPU] [--max-price USD] [--region PLACE]",
                   example="/dumont search RTX 4090 --max-price 0.40", options=_OFFERS),
    "up": Verb(what="rent a machine", usage="up NAME --gpu GPU [--max-price USD] [--disk GB]",
               example='/dumont up trainer --gpu "RTX 4090" --max-price 0.40', name="needed", options=_MACHINE,
               changes=True),
    "ls": Verb(what="the machines", usage="ls [--all]", example="/dumont ls", options={"all": Option("all", "flag")}),
    "status": Verb(what="one machine, with buttons; or all", usage="status [NAME]", example="/dumont status trainer",
                   name="optional"),
    "ssh": Verb(what="how to get a shell", usage="ssh NAME", example="/dumont ssh trainer", name="needed"),
    "snapshot": Verb(what="save its workspace now", usage="snapshot NAME", example="/dumont snapshot trainer",
                     name="needed", changes=True),
    "failover": Verb(what="move it to another host, saved first", usage="failover NAME [--drill]",
                     example="/dumont failover trainer", name="needed", changes=True,
                     options={"drill": Option("drill", "flag"), "discard": Option("discard", "flag")}),
    "hibernate": Verb(what="put it to sleep, saved first", usage="hibernate NAME [--pause]",
                      example="/dumont hibernate trainer", name="needed", changes=True,
                      options={"pause": Option("pause", "flag")}),
    "wake": Verb(what="wake it", usage="wake NAME", example="/dumont wake trainer", name="needed", changes=True),
    "keep": Verb(what="keep it awake for a while", usage="keep NAME 2h|off", example="/dumont keep trainer 2h",
                 name="needed", changes=True),
    "down": Verb(what="destroy it (it asks first)", usage="down NAME [--snapshot|--discard]",
                 example="/dumont down trainer", name="needed", changes=True,
                 options={"snapshot": Option("snapshot", "flag"), "discard": Option("discard", "flag")}),
    "cost": Verb(what="what was spent, in 30 days", usage="cost [NAME]", example="/dumont cost trainer",
                 name="optional"),
    "savings": Verb(what="what was saved", usage="savings [NAME]", example="/dumont savings", name="optional"),
    "budget": Verb(what="the budgets, and how they stand", usage="budget", example="/dumont budget"),
    "help": Verb(what="this", usage="help [COMMAND]", example="/dumont help up"),
}  # fmt: skip

ALIASES: dict[str, str] = {
    "list": "ls", "machines": "ls", "show": "status", "info": "status", "find": "search", "offers": "search",
    "rent": "up", "create": "up", "provision": "up", "launch": "up", "shell": "ssh", "save": "snapshot",
    "backup": "snapshot", "snapshots": "snapshot", "move": "failover", "sleep": "hibernate", "suspend": "hibernate",
    "resume": "wake", "start": "wake", "awake": "keep", "destroy": "down", "delete": "down", "rm": "down",
    "remove": "down", "release": "down", "terminate": "down", "costs": "cost", "spent": "cost", "spending": "cost",
    "bill": "cost", "saved": "savings", "saving": "savings", "budgets": "budget", "?": "help", "-h": "help",
    "--help": "help", "usage": "help",
}  # fmt: skip
_FOR_STOP = ("hibernate", "down")


def option_of(field: str) -> str:
    """An API's field as it is typed here."""
    return next((f"--{name}" for name, option in _MACHINE.items() if option.field == field), field)


def parse(text: str) -> Wish | Unclear:
    """What the text after `/dumont` asks for."""
    words = texts.words(text)
    if words and words[0].lower() in ("dumont", "/dumont"):
        words = words[1:]
    if not words:
        return Wish(verb="help")
    said, rest = words[0].lower(), words[1:]
    verb = ALIASES.get(said, said)
    if verb not in VERBS:
        return _unknown_verb(said, rest)
    if any(word in ("--help", "-h") for word in rest):
        return Wish(verb="help", fields={"verb": verb})
    return _read(verb, rest)


def _unknown_verb(said: str, rest: list[str]) -> Unclear:
    near = _FOR_STOP if said == "stop" else difflib.get_close_matches(said, [*VERBS, *ALIASES], n=3, cutoff=0.6)
    verbs = list(dict.fromkeys(ALIASES.get(word, word) for word in near))
    tail = " ".join(rest)[:150]
    meant = tuple(f"/dumont {verb} {tail}".rstrip() for verb in verbs)
    return Unclear(why=f"there is no command “{said[:40]}”", meant=meant)


def _read(verb: str, rest: list[str]) -> Wish | Unclear:
    known = VERBS[verb]
    loose: list[str] = []
    fields: dict[str, Any] = {}
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        if not word.startswith("--") or word == "--":
            loose += [] if word == "--" else [word]
            continue
        spelled, equals, value = word[2:].partition("=")
        option = _option(known, spelled.lower().replace("_", "-"))
        if option is None:
            return _unknown_option(verb, spelled)
        values = [value] if equals else []
        if option.kind not in ("flag", "unflag") and not equals:
            while at < len(rest) and not rest[at].startswith("--") and (_takes_more(option) or not values):
                values.append(rest[at])
                at += 1
            # "--gpu RTX 4090 trainer": a name that comes after a text belongs to it, so say so rather than guess.
        read = _value(option, " ".join(values))
        if read is None:
            what = f"--{spelled[:40]} needs a value" if not values else f"--{spelled[:40]}: “{' '.join(values)[:60]}”?"
            return Unclear(why=what, verb=verb, example=known.example)
        if option.kind == "many":
            read = [*fields.get(option.field, []), read]
        fields[option.field] = read
    return _named(verb, loose, fields)


def _takes_more(option: Option) -> bool:
    """GPU models, places and commands have blanks in them, and nobody likes to quote on a phone."""
    return option.kind in ("text", "many", "minutes")


def _named(verb: str, loose: list[str], fields: dict[str, Any]) -> Wish | Unclear:
    known = VERBS[verb]
    if verb == "help":
        asked = ALIASES.get(loose[0].lower(), loose[0].lower()) if loose else ""
        return Wish(verb=verb, fields={"verb": asked} if asked in VERBS else {})
    if verb == "search" and loose and "gpu" not in fields:
        return Wish(verb=verb, fields={**fields, "gpu": " ".join(loose)[:60]})
    if known.name == "none":
        return Wish(verb=verb, fields=fields)
    if known.name == "needed" and not loose:
        return Unclear(why=f"which machine? `{verb}` needs a name", verb=verb, example=known.example)
    name, more = (loose[0].lower(), loose[1:]) if loose else ("", [])
    if verb == "keep":
        return _keep(name, more)
    if verb == "up" and more and "gpu" not in fields:
        fields, more = {**fields, "gpu": " ".join(more)[:60]}, []
    if more:
        return Unclear(why=f"what is “{' '.join(more)[:60]}”?", verb=verb, example=known.example)
    return Wish(verb=verb, name=name[:100], fields=fields)


def _keep(name: str, more: list[str]) -> Wish | Unclear:
    said = " ".join(word for word in more if word.lower() not in ("for", "awake")).strip()
    if said.lower() in ("off", "no", "stop"):
        return Wish(verb="keep", name=name[:100], fields={"seconds": 0.0})
    found = texts.seconds(said or "2h")
    if found is None:
        return Unclear(why=f"“{said[:60]}” is no length of time", verb="keep", example="/dumont keep trainer 2h")
    return Wish(verb="keep", name=name[:100], fields={"seconds": found})


def _option(known: Verb, spelled: str) -> Option | None:
    exact = known.options.get(spelled)
    if exact is not None:
        return exact
    begins = [name for name in known.options if spelled and name.startswith(spelled)]
    return known.options[begins[0]] if len(begins) == 1 else None


def _unknown_option(verb: str, spelled: str) -> Unclear:
    known = VERBS[verb]
    near = difflib.get_close_matches(spelled.lower(), list(known.options), n=2, cutoff=0.5)
    meant = tuple(f"--{name}" for name in near)
    return Unclear(why=f"`{verb}` has no option --{spelled[:40]}", verb=verb, example=known.example, meant=meant)


def _value(option: Option, text: str) -> Any:
    """The value as the API has it; None for one that cannot be read."""
    match option.kind:
        case "flag":
            return text.lower() not in ("no", "false", "off", "0")
        case "unflag":
            return text.lower() in ("no", "false", "off", "0")
        case "text" | "many":
            return text[:4096] or None
        case "number":
            return texts.number(text)
        case "whole":
            found = texts.number(text)
            return int(found) if found is not None and found == int(found) else None
        case "share":
            found = texts.number(text.rstrip("% "))
            return found / 100 if found is not None and (found > 1 or text.endswith("%")) else found
        case "minutes":
            found = texts.seconds(text)
            return found / 60.0 if found is not None else texts.number(text)
