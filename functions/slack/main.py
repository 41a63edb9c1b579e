"""`POST /slack/commands`, `/slack/actions`, `/slack/events`: Slack's requests. Its signature is their proof."""

import functions_framework

from dumont.domain.records import Role
from dumont.edge.http import Answer, Call, endpoint


@functions_framework.http
@endpoint(methods={"POST": Role.VIEWER}, open_to_the_world=True)
def slack(call: Call) -> Answer:
    """`/dumont …` and buttons: what only looks is answered at once, the rest by the worker."""
    from dumont.edge.slack import door

    return door.serve(call)


@functions_framework.cloud_event
def slack_worker(event: object) -> None:
    """Topic `dumont-slack`: do what was asked for, and tell what is to be told."""
    from dumont.edge.slack import worker

    worker.work(event)
