"""Who may see the pages: whoever may run SQL on the database, for that is what the pages do. And who may write.

Datasette 1.0 asks about resources; 0.65 about (action, name) pairs. Both are kept in this one file.
"""

from typing import Any

Actor = dict[str, Any] | None

ACTIONS = ("view-database", "execute-sql")
WRITE = "nearsql-write"


async def may_query(datasette: Any, database: str, actor: Actor) -> bool:
    """Whether the visitor may view this database and run SQL on it."""
    for action in ACTIONS:
        if not await _allowed(datasette, action, database, actor):
            return False
    return True


async def may_write(datasette: Any, db: Any, actor: Actor) -> bool:
    """Whether the visitor may save selections, tags, names and decisions in this database.

    Besides the permission, which nobody has unless it was given, the database must not be immutable.
    """
    if not db.is_mutable or db.is_memory:
        return False
    if hasattr(datasette, "allowed"):  # 1.0
        return await _allowed(datasette, WRITE, db.name, actor)
    granted = await datasette.permission_allowed(actor, WRITE, resource=db.name, default=False)
    return bool(granted)


async def _allowed(datasette: Any, action: str, database: str, actor: Actor) -> bool:
    if hasattr(datasette, "allowed"):  # 1.0
        from datasette.resources import DatabaseResource

        resource = DatabaseResource(database=database)
        return bool(await datasette.allowed(action=action, resource=resource, actor=actor))
    # 0.65: the first that has an opinion decides, the database before the whole instance.
    visible, _private = await datasette.check_visibility(
        actor, permissions=[(action, database), "view-instance"]
    )
    return bool(visible)
