"""What the command lines of the benchmarks have in common."""

import argparse
import os
from pathlib import Path


def command_line(script: str, documentation: str, *, writes: str) -> argparse.ArgumentParser:
    """The parser of a benchmark that `script` runs, with --write, which `writes` says more of."""
    parser = argparse.ArgumentParser(
        prog=script,
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help=writes)
    return parser


def add_assets(parser: argparse.ArgumentParser, holds: str, *, is_required: bool = False) -> None:
    """--assets, a Path: the folder of real data, or what NEARSQL_ASSETS names. holds: what is in it."""
    named = os.environ.get("NEARSQL_ASSETS")
    parser.add_argument(
        "--assets",
        type=Path,
        default=named,
        required=is_required and not named,
        help=f"the folder with {holds} (default: what NEARSQL_ASSETS names)",
    )
