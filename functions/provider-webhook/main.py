"""`POST /provider-webhook`: Vast.ai tells us by itself, for example that we were outbid. Its signature is its proof."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint, no_such_path
from dumont.edge.webhooks import notice_of
from dumont.operations.notices import receive


@functions_framework.http
@endpoint(methods={"POST": Role.VIEWER}, open_to_the_world=True)
def provider_webhook(call: Call) -> Answer:
    """The body is Vast.ai's, as it sends it; the answer says what was made of it."""
    if call.path:
        raise no_such_path(call)
    return Answer(receive(call.ports, notice_of(call)))
