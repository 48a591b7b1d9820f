"""``bistro completion``: the script with which a shell completes commands and submissions."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from bistro.errors import SettingsError
from bistro_client.home import Home, default_root
from bistro_client.wording import say

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BISTRO_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and submissions.

    \b
    Examples:
      bistro completion bash > ~/.local/share/bash-completion/completions/bistro
      bistro completion zsh  > ~/.zfunc/_bistro
      bistro completion fish > ~/.config/fish/completions/bistro.fish
    """  # noqa: D301 - click reads the backspace
    kind = get_completion_class(shell)
    if kind is None:
        raise SettingsError(
            say("completion.this-shell-not", shell=shell), hint=say("completion.bash-zsh-fish")
        )
    click.echo(kind(ctx.find_root().command, {}, "bistro", VARIABLE).source())


def submissions(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[CompletionItem]:
    """Ids of submissions that begin so, the newest first."""
    del param
    home = Home(ctx.params.get("home") or default_root())
    names = [folder.id for folder in home.folders() if folder.id.startswith(incomplete)]
    return [CompletionItem(name) for name in reversed(names)]
