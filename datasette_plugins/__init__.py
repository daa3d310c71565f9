"""The browser face: a Datasette plugin with pages over the SQL of a nearsql file.

Importing it makes Datasette open files through nearsql's SQLite. Datasette has one name for the
library, `datasette.utils.sqlite.sqlite3`; that is where it swaps in pysqlite3, and where this does,
together with the two modules that have imported the name before plugins are loaded. A `startup` hook
would come too late: Datasette 1.0 opens files before it.
"""

import importlib
from typing import Any

import apsw
import datasette.database
import datasette.utils
import datasette.utils.sqlite
from datasette import hookimpl
from datasette.database import Database

from nearsql.datasette_plugins import (
    assets,
    cells,
    cluster_members,
    cluster_sweep,
    clusters,
    diffs,
    entering,
    evaluations,
    findings,
    items,
    map_columns,
    map_filters,
    maps,
    overview,
    runs,
    search,
    search_image,
    selections,
    thumbnails,
    writing,
)
from nearsql.datasette_plugins.actions import reads_and_writes
from nearsql.datasette_plugins.pages import is_nearsql, page_url
from nearsql.datasette_plugins.permissions import may_query
from nearsql.datasette_plugins.search_image import skip_csrf
from nearsql.datasette_plugins.write_permission import permission_allowed, register_actions
from nearsql.udfs import dbapi
from nearsql.udfs.connection import prepare

# Hooks that other modules implement.
__all__ = ["permission_allowed", "register_actions", "skip_csrf"]

for _module in (datasette.utils.sqlite, datasette.utils, datasette.database):
    _module.sqlite3 = dbapi


@hookimpl
def startup() -> None:
    """Keeps Datasette's page for errors working where `rich` is installed, as it is with nearsql.

    Datasette prints errors by rich when it finds it, with all local variables (cookies too), and
    fails itself where no exception is being handled: an address without a route gave 500, not 404.
    """
    handle_exception: Any = importlib.import_module("datasette.handle_exception")
    handle_exception.rich = None


@hookimpl
def prepare_connection(conn: Any) -> None:
    """Offers nearsql's functions on the databases that Datasette serves.

    Datasette keeps its own books in shared memory, which stays with the standard library.
    """
    if isinstance(conn, dbapi.Connection):
        prepare(conn)
        # Datasette 0.65's own SQL writes texts in double quotes, which `prepare` had made an error.
        conn.apsw.config(apsw.SQLITE_DBCONFIG_DQS_DML, 1)


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    """Every page is below /-/nearsql/<database>; scripts and styles have their own place."""
    root = r"^/-/nearsql/(?P<database>[^/]+)"
    return [
        (r"^/-/nearsql-enter$", entering.enter),
        (r"^/-/nearsql-assets/(?P<version>[^/]+)/(?P<name>[^/]+)$", assets.asset),
        (root + r"$", overview.overview),
        (root + r"/search$", reads_and_writes(search.search, search_image.search_by_image)),
        (root + r"/diff$", diffs.diff),
        (root + r"/runs$", runs.runs),
        (root + r"/runs/(?P<run>\d+)$", runs.run),
        (root + r"/clusters$", clusters.newest_clusters),
        (root + r"/clusters/(?P<run>\d+)$", clusters.clusters_of_run),
        (root + r"/clusters/(?P<run>\d+)/sweep$", cluster_sweep.sweep),
        (
            root + r"/clusters/(?P<run>\d+)/(?P<level>\d+)/(?P<label>\d+|noise)$",
            cluster_members.members,
        ),
        (
            root + r"/clusters/(?P<run>\d+)/(?P<level>\d+)/(?P<label>\d+)/name$",
            cluster_members.name_cluster,
        ),
        (root + r"/evaluations$", evaluations.evaluations),
        (root + r"/evaluations/(?P<run>\d+)$", evaluations.evaluation),
        (root + r"/evaluations/(?P<run>\d+)/items$", evaluations.evaluation_items),
        (root + r"/evaluations/(?P<run>\d+)/items/(?P<item>\d+)$", evaluations.voters),
        (root + r"/findings$", findings.findings),
        (root + r"/findings/(?P<run>\d+)$", findings.findings_of_run),
        (root + r"/findings/(?P<run>\d+)/download$", findings.download),
        (root + r"/findings/(?P<run>\d+)/decide$", findings.decide),
        (root + r"/map$", maps.newest_map),
        (root + r"/map/(?P<run>\d+)$", maps.map_page),
        (root + r"/map/(?P<run>\d+)/columns$", map_columns.columns),
        (root + r"/map/(?P<run>\d+)/colours$", map_columns.colours),
        (root + r"/map/(?P<run>\d+)/within$", map_filters.named),
        (root + r"/map/(?P<run>\d+)/inside$", map_filters.inside),
        (root + r"/map/(?P<run>\d+)/sheet$", map_filters.sheet),
        (root + r"/items/(?P<item>\d+)$", items.item_page),
        (root + r"/items/(?P<item>\d+)/image$", items.image),
        (root + r"/items/(?P<item>\d+)/thumbnail$", thumbnails.thumbnail),
        (root + r"/items/(?P<item>\d+)/card$", items.card),
        (root + r"/items/(?P<item>\d+)/panel$", items.panel),
        (
            root + r"/selections$",
            reads_and_writes(selections.all_selections, writing.save_selection),
        ),
        (
            root + r"/selections/(?P<selection>\d+)$",
            reads_and_writes(selections.one_selection, writing.change_selection),
        ),
        (root + r"/selections/(?P<selection>\d+)/items\.csv$", selections.selection_csv),
        (root + r"/selections/(?P<selection>\d+)/delete$", writing.delete_selection),
        (root + r"/tags$", writing.tag),
    ]


@hookimpl(optionalhook=True)
def get_metadata(datasette: Any) -> dict[str, Any]:
    """Hides the tables of vec0 indexes from the lists of Datasette 0.65: all that begin with this name.

    Datasette 1.0 has no such hook, and hides every table that begins with an underscore.
    """
    return {
        "databases": {
            name: {"tables": {"_nearsql_vec0_": {"hidden": True}}} for name in datasette.databases
        }
    }


@hookimpl
def menu_links(datasette: Any, actor: dict[str, Any] | None) -> Any:
    """One entry a nearsql database that the visitor may query."""

    async def links() -> list[dict[str, str]]:
        return [
            {"href": page_url(datasette, db.name), "label": f"nearsql: {db.name}"}
            for db in list(datasette.databases.values())
            if await _offers_pages(datasette, db, actor)
        ]

    return links


@hookimpl
def database_actions(datasette: Any, actor: dict[str, Any] | None, database: str) -> Any:
    """The way from Datasette's page of a database to ours."""

    async def links() -> list[dict[str, str]]:
        if not await _offers_pages(datasette, datasette.get_database(database), actor):
            return []
        return [
            {"href": page_url(datasette, database), "label": "Spaces, clusters and runs"},
            {"href": page_url(datasette, database, "map"), "label": "Map"},
        ]

    return links


_EVALUATION = ("evaluations", "Evaluation")


@hookimpl
def table_actions(datasette: Any, actor: dict[str, Any] | None, database: str, table: str) -> Any:
    """From a table to the page that shows what the table is about."""
    pages = {
        "projection_points": ("map", "Map"),
        "spaces": ("", "Overview of the spaces"),
        "runs": ("", "Overview of the runs"),
        "clusters": ("clusters", "Clusters"),
        "memberships": ("clusters", "Clusters"),
        "items": ("", "Overview of the collections"),
        "findings": ("findings", "Findings"),
        **dict.fromkeys(("cv_metrics", "cv_predictions", "cv_neighbors"), _EVALUATION),
    }
    if table not in pages:
        return None
    path, label = pages[table]

    async def links() -> list[dict[str, str]]:
        if not await _offers_pages(datasette, datasette.get_database(database), actor):
            return []
        return [{"href": page_url(datasette, database, *path.split()), "label": label}]

    return links


@hookimpl
def render_cell(
    row: Any, value: Any, column: str, table: str | None, database: str, datasette: Any
) -> Any:
    """Vectors as a short text, items as thumbnails."""
    return cells.render(datasette, database, table, column, value, row)


async def _offers_pages(datasette: Any, db: Database, actor: dict[str, Any] | None) -> bool:
    return await may_query(datasette, db.name, actor) and await is_nearsql(db)
