"""The client's commands: the only place of client that prints.

A verb is one row in `verbs.SECTIONS` and one module with one click command:

    # client/cli/verbs.py, in the section where people look for it
    Verb("tag", "client.cli.tag:tag", "Give an image another name"),

    # client/cli/tag.py
    import click

    from client.cli.context import Context, local

    @click.command()
    @click.argument("source")
    @click.argument("target")
    @local
    def tag(context: Context, source: str, target: str) -> None:
        \"\"\"Give an image another name.\"\"\"
        from client.store import Store      # heavy imports stay in the function: --help needs none of them

        ...
        context.print(str(reference))       # a result: on stdout, one a line

`context.connected` in place of `context.local` adds the options of verbs that talk to registries, and
`context.progressing` those of verbs that take long and stay here; `output.listing` adds those of lists.
Errors are raised, never printed: `errors` turns each class into a line and an exit code, and a new class
needs a row there when its code is not 1. A verb that fails without an error, as `diff` does, returns its exit
code. Whatever takes time tells `context.progress`, and waits through `context.deadline`, which ends when a
signal comes.
"""
