"""GPU models: the names that markets use, with their memory. A name that is not here is refused with a suggestion."""

from __future__ import annotations

import difflib
import re

# Name as Vast.ai spells it → memory of one GPU, GiB (nvidia.com data sheets).
VRAM_GIB: dict[str, float] = {
    "GTX 1070": 8, "GTX 1080": 8, "GTX 1080 Ti": 11, "GTX 1660 S": 6,
    "RTX 2060": 6, "RTX 2070": 8, "RTX 2070S": 8, "RTX 2080": 8, "RTX 2080 Ti": 11,
    "RTX 3060": 12, "RTX 3060 Ti": 8, "RTX 3070": 8, "RTX 3070 Ti": 8, "RTX 3080": 10, "RTX 3080 Ti": 12,
    "RTX 3090": 24, "RTX 3090 Ti": 24,
    "RTX 4060": 8, "RTX 4060 Ti": 16, "RTX 4070": 12, "RTX 4070S": 12, "RTX 4070 Ti": 12, "RTX 4070S Ti": 16,
    "RTX 4080": 16, "RTX 4080S": 16, "RTX 4090": 24, "RTX 4090D": 24,
    "RTX 5060": 8, "RTX 5060 Ti": 16, "RTX 5070": 12, "RTX 5070 Ti": 16, "RTX 5080": 16, "RTX 5090": 32,
    "RTX A2000": 12, "RTX A4000": 16, "RTX A4500": 20, "RTX A5000": 24, "RTX A6000": 48,
    "RTX 4000Ada": 20, "RTX 4500Ada": 24, "RTX 5000Ada": 32, "RTX 5880Ada": 48, "RTX 6000Ada": 48,
    "RTX PRO 6000 WS": 96, "RTX PRO 6000 S": 96,
    "Q RTX 6000": 24, "Q RTX 8000": 48, "Titan V": 12, "Titan RTX": 24,
    "Tesla P40": 24, "Tesla P100": 16, "Tesla T4": 16, "Tesla V100": 16,
    "A10": 24, "A16": 16, "A30": 24, "A40": 48, "A100 PCIE": 40, "A100 SXM4": 80,
    "L4": 24, "L40": 48, "L40S": 48, "H100 PCIE": 80, "H100 SXM": 80, "H100 NVL": 94, "H200": 141, "H200 NVL": 141,
    "GH200 SXM": 96, "B200": 180, "B300": 275,
}  # fmt: skip

_PREFIXES = ("nvidia ", "geforce ", "nvidia geforce ")


def _folded(name: str) -> str:
    text = name.replace("_", " ").strip().casefold()
    for prefix in sorted(_PREFIXES, key=len, reverse=True):
        text = text.removeprefix(prefix)
    return "".join(text.split()).replace("-", "")


_BY_FOLDED = {_folded(name): name for name in VRAM_GIB}


def canonical(name: str) -> str:
    """The market's spelling of a GPU name: "rtx_4090", "NVIDIA GeForce RTX 4090" and "RTX4090" are "RTX 4090".

    A name that is not known comes back as it is, trimmed.
    """
    return _BY_FOLDED.get(_folded(name), name.replace("_", " ").strip())


def is_known(name: str) -> bool:
    """Whether a GPU model of this name is known, however it is spelled."""
    return _folded(name) in _BY_FOLDED


def suggestions(name: str) -> list[str]:
    """Up to three known names nearest to a name that is not known."""
    near = difflib.get_close_matches(_folded(name), list(_BY_FOLDED), n=3, cutoff=0.5)
    return [_BY_FOLDED[key] for key in near]


# What drivers write and markets leave out, or write in another way.
_NOISE = re.compile(r"nvidia|geforce|quadro|generation|graphics|hbm\d?e?|-?\b\d+ ?gb\b")
_FORMS = re.compile(r"sxm\d?|pcie|nvl")


def _model_key(name: str) -> tuple[str, frozenset[str]]:
    text = _NOISE.sub(" ", name.casefold().replace("_", " "))
    forms = frozenset(form.rstrip("0123456789") for form in _FORMS.findall(text))
    text = _FORMS.sub(" ", text).replace("super", "s")
    compact = re.sub(r"[\s-]+", "", text)
    return compact.replace("sti", "tis").removeprefix("q"), forms


def same_model(driver_name: str, offered: str) -> bool:
    """Whether the model that a driver reports ("NVIDIA H100 80GB HBM3") is the one offered ("H100 SXM").

    A form (SXM, PCIe, NVL) counts against it only where both name one and they differ: some drivers leave it out.
    """
    reported, reported_forms = _model_key(driver_name)
    wanted, wanted_forms = _model_key(offered)
    if reported_forms and wanted_forms and reported_forms != wanted_forms:
        return False
    return bool(reported) and reported == wanted
