"""`nearsql functions`: the SQL functions, from the catalogue."""

import click

from nearsql.udfs import catalogue


@click.command("functions")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the SQL functions, or describe the one called NAME."""
    functions = catalogue.load()
    if name is None:
        for function in functions.values():
            click.echo(f"{function.signature}\n    {function.documentation.splitlines()[0]}")
        return
    if name not in functions:
        raise LookupError(f"there is no function {name!r}: they are {', '.join(functions)}")
    function = functions[name]
    click.echo(function.signature)
    if function.columns:
        click.echo(f"gives: {', '.join(function.columns)}")
    click.echo(f"\n{function.documentation}\n\n{function.example}")
