"""The foreign test suites the sqlite3 face is held to, and the differences that are accepted."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """One test suite that was written for the standard library's sqlite3.

    package: what to download from the package registry, by name and version; None for a suite
    that comes with Python.
    requirements: what its tests need besides the package itself.
    options: added to its pytest command. Source archives do not ship the pytest.ini of a project,
    so what that says is said here.
    minimum: tests that must pass on the face, whatever the standard library does.
    accepted: test -> why its result may differ. A name that ends with * stands for all it begins.
    """

    name: str
    package: str | None
    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    minimum: int = 1
    accepted: dict[str, str] = field(default_factory=dict)


_SHARED_MEMORY = (
    "compares the SQLite version of a named memory database, which is the standard library's, "
    "with that of the face"
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="sqlite-utils",
            package="sqlite-utils==4.2.1",
            requirements=("pytest", "hypothesis", "cogapp", "click>=8.4.2", "tabulate>=0.10.0"),
            minimum=1480,
        ),
        Suite(
            name="datasette-0.65",
            package="datasette==0.65.5",
            requirements=(
                "pytest>=8",
                "pytest-asyncio>=0.17",
                "pytest-timeout>=1.4.2",
                "beautifulsoup4>=4.8.1",
                "black==24.4.2",
                "blacken-docs==1.12.1",
                "trustme>=0.7",
                "cogapp>=3.3.0",
            ),
            options=("-o", "asyncio_mode=strict", "-o", "markers=serial: not in parallel"),
            accepted={
                "tests/test_plugins.py::test_plugins_async_template_function": _SHARED_MEMORY,
            },
        ),
        Suite(
            name="datasette-1.0",
            package="datasette==1.0a41",
            requirements=(
                "pytest>=9",
                "pytest-asyncio>=1.2.0",
                "pytest-timeout>=1.4.2",
                "beautifulsoup4>=4.8.1",
                "black==26.5.1",
                "blacken-docs==1.20.0",
                "trustme>=0.7",
                "cogapp>=3.3.0",
                "multipart-form-data-conformance==0.1a0",
                "opentelemetry-sdk>=1.37",
                "ruamel.yaml",
                "psutil>=5.9",
            ),
            options=(
                *("-o", "asyncio_mode=strict", "-o", "markers=serial: not in parallel"),
                # The fixtures for OpenTelemetry, which ship with Datasette itself.
                *("-p", "datasette.telemetry_testing"),
            ),
            accepted={
                "tests/test_allowed_many.py::"
                "test_allowed_many_more_than_sqlite_compound_select_limit": (
                    "its SQL of 390 kB with 600 common table expressions is refused by SQLite "
                    "3.54 itself: VIEWs and/or subqueries nested too deep"
                ),
            },
        ),
        Suite(
            name="cpython",
            package=None,
            minimum=425,
            accepted={
                "test.test_sqlite3.test_dbapi.ModuleTests.test_disallow_instantiation": (
                    "Connection('select 1') gives the text it has checked, not an object "
                    "of a private class"
                ),
            },
        ),
    )
}
