"""`GET /budgets`, `POST /budgets` (set one), `DELETE /budgets` (of all together), `DELETE /budgets/MACHINE`."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge import money
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.operations import budget_settings


@functions_framework.http
@endpoint(methods={"GET": Role.VIEWER, "POST": Role.OPERATOR, "DELETE": Role.OPERATOR})
def budgets(call: Call) -> Answer:
    """The budgets, how each stands, and the credit that is left."""
    match call.request.method, call.path:
        case "GET", []:
            pass
        case "POST", []:
            budget_settings.put(call.ports, call.body(money.BudgetRequest).wanted(), set_by=call.caller)
        case "DELETE", []:
            budget_settings.remove(call.ports, "", set_by=call.caller)
        case "DELETE", [machine]:
            budget_settings.remove(call.ports, machine, set_by=call.caller)
        case _:
            raise no_such_path(call)
    return Answer(
        {
            "budgets": [money.budget(seen) for seen in budget_settings.every(call.ports)],
            "credit": [money.credit(seen) for seen in budget_settings.credits_seen(call.ports)],
        }
    )
