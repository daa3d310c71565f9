"""`nearsql completion SHELL`: what lets a shell complete the command."""

import click

from nearsql.pipeline.completions import SHELLS, script


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete nearsql at Tab.

    Commands, options and files; and of the file that is typed already the names of its spaces,
    selections, collections and labels, and its runs by number.

    \b
      eval "$(nearsql completion bash)"         # in ~/.bashrc
      eval "$(nearsql completion zsh)"          # in ~/.zshrc, after compinit
      nearsql completion fish > ~/.config/fish/completions/nearsql.fish
    """
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    click.echo(script(group, shell), nl=False)
