"""`cargohold completion`: what makes a shell complete our verbs."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print completion for a shell.

    \b
    bash   eval "$(cargohold completion bash)"      in ~/.bashrc
    zsh    eval "$(cargohold completion zsh)"       in ~/.zshrc, after compinit
    fish   cargohold completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(ctx.find_root().command, {}, "cargohold", "_CARGOHOLD_COMPLETE").source())
