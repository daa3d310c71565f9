"""The permission `nearsql-write`: who may save selections, tags, names and decisions through the pages.

Reading never needs it. Nobody has it but root, until the configuration names somebody, in the words that
Datasette 1.0 has for every permission, for one database or for all:

    databases:
      photos:
        permissions:
          nearsql-write:
            id: anna

Datasette 1.0 reads that block itself once the action is registered, and lets root do everything. In 0.65
the hook below does both, from its metadata.
"""

from typing import Any

from datasette import hookimpl
from datasette.utils import actor_matches_allow

ACTION = "nearsql-write"
DESCRIPTION = "Save selections, tags, names and decisions in a nearsql database"


@hookimpl(optionalhook=True)
def register_actions(datasette: Any) -> list[Any]:
    """The permission as an action of Datasette 1.0."""
    from datasette.permissions import Action
    from datasette.resources import DatabaseResource

    return [
        Action(
            name=ACTION,
            abbr="nw",
            description=DESCRIPTION,
            resource_class=DatabaseResource,
            also_requires="execute-sql",
        )
    ]


@hookimpl(optionalhook=True)
def permission_allowed(
    datasette: Any, actor: dict[str, Any] | None, action: str, resource: Any
) -> bool | None:
    """The permission in Datasette 0.65: the rule of the database, else that of all, else root."""
    if action != ACTION:
        return None
    metadata = datasette.metadata() or {}
    of_database = (metadata.get("databases") or {}).get(resource) or {}
    for block in (of_database, metadata):
        rule = (block.get("permissions") or {}).get(ACTION)
        if rule is not None:
            return bool(actor_matches_allow(actor, rule))
    return actor is not None and actor.get("id") == "root"
