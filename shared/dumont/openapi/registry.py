"""All routes, by function. A new function's join one of these modules, or one of its own, named here."""

from __future__ import annotations

from dumont.openapi import of_keys_and_webhooks, of_machines, of_the_rest
from dumont.openapi.routes import Route

FUNCTIONS: dict[str, tuple[Route, ...]] = {
    **of_machines.FUNCTIONS,
    **of_the_rest.FUNCTIONS,
    **of_keys_and_webhooks.FUNCTIONS,
}
