"""All routes. A new function joins by a `FunctionRoutes` in one of these modules, or in one of its own, named here."""

from __future__ import annotations

from dumont.openapi import of_keys_and_webhooks, of_machines, of_the_rest
from dumont.openapi.routes import FunctionRoutes

FUNCTIONS: tuple[FunctionRoutes, ...] = (
    *of_machines.FUNCTIONS,
    *of_the_rest.FUNCTIONS,
    *of_keys_and_webhooks.FUNCTIONS,
)
