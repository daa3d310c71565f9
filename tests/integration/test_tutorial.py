"""docs/tutorial.md is true: from an empty folder, without a network and with the core alone, every step says
what is shown below it."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from docs.steps import count_scripts, run_steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
# Every Python that a step starts is told first: no network, and none of what the extras bring.
GUARD = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"there is no network here: {{event}} {{arguments}}")

sys.meta_path.insert(0, NotInstalled())
sys.addaudithook(refuse)
"""


def modules_of_the_extras() -> set[str]:
    """The modules of whatever `nearsql[all]` installs beyond the core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = extras["all"]
    names = re.findall(r"\w+", everything.partition("[")[2])
    wanted = {re.split(r"[\[<>=~! ]", item)[0].lower() for name in names for item in extras[name]}
    assert {"torch", "matplotlib", "pyarrow", "llm"} <= wanted
    return {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {name.lower().replace("_", "-") for name in distributions}
        or wanted & {name.lower() for name in distributions}
    }


def test_every_step_says_what_the_page_shows(tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD.format(modules=modules_of_the_extras()))
    folder = tmp_path / "empty"
    folder.mkdir()
    # A home of its own, too: what a person has installed or configured there is out of reach.
    steps = 0
    for step in run_steps(PAGE, folder, {"PYTHONPATH": str(guard), "HOME": str(tmp_path)}):
        steps += 1
        assert step.is_as_shown, f"{step.script}\n{step.said}\nand not\n{step.shown}"
    assert steps == count_scripts(PAGE) >= 15
    assert "<html" in (folder / "map.html").read_text("utf-8")


def test_the_guard_refuses(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    (tmp_path / "sitecustomize.py").write_text(GUARD.format(modules={"matplotlib"}))
    page = (
        "```sh\npython -c \"import socket; socket.create_connection(('127.0.0.1', 9))\"\n```\n```text\n```\n"
        '```sh\npython -c "import matplotlib"\n```\n```text\n```\n'
    )
    connected, imported = run_steps(page, tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert connected.code != 0
    assert "there is no network here: socket." in connected.said
    assert imported.code != 0
    assert "No module named 'matplotlib'" in imported.said
    assert not connected.is_as_shown


def test_what_differs_from_machine_to_machine_stays_marked(tmp_path: Path) -> None:
    """When a page is brought up to date, that is."""
    page = "```sh\necho took 3 s; echo new; printf 'took 4 days\\n' >&2\n```\n```text\ntook … s\nold\n```\n"
    (step,) = run_steps(page, tmp_path, {})
    assert not step.is_as_shown
    assert step.said == "took 3 s\nnew\ntook 4 days\n"
    assert step.to_show == "took … s\nnew\ntook 4 days\n"
    assert step._replace(shown=step.to_show).is_as_shown
