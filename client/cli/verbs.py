"""The table of the client's verbs, in the order in which `--help` shows them."""

from client.cli.group import Section, Verb

SECTIONS = (
    Section(
        "Images",
        (
            Verb("pull", "client.cli.pull:pull", "Pull images into the local store"),
            Verb("push", "client.cli.push:push", "Push an image to a registry"),
            Verb("images", "client.cli.images:images", "List images"),
            Verb("inspect", "client.cli.inspect:inspect", "Show what an image is made of"),
            Verb("history", "client.cli.history:history", "Show how an image was built"),
            Verb("tag", "client.cli.tag:tag", "Give an image another name"),
            Verb("rmi", "client.cli.rmi:rmi", "Remove names and images"),
            Verb("save", "client.cli.save:save", "Write images into an archive"),
            Verb("load", "client.cli.load:load", "Load images from an archive"),
            Verb("copy", "client.cli.copy:copy", "Copy between registries, layouts and archives", ("cp",)),
        ),
    ),
    Section(
        "Files",
        (
            Verb("unpack", "client.cli.unpack:unpack", "Unpack an image into a directory"),
            Verb("bundle", "client.cli.bundle:bundle", "Make an OCI bundle that runc starts"),
            Verb("mount", "client.cli.mount:mount", "Mount an image"),
            Verb("umount", "client.cli.mount:umount", "End a mount", ("unmount",)),
            Verb("cat", "client.cli.files:cat", "Write a file of an image to stdout"),
            Verb("ls", "client.cli.files:ls", "List a directory of an image"),
            Verb("diff", "client.cli.files:diff", "Compare the files of two images"),
        ),
    ),
    Section(
        "Store",
        (
            Verb("prune", "client.cli.prune:prune", "Free the space of what nobody needs"),
            Verb("df", "client.cli.df:df", "Measure what the store takes"),
            Verb(
                "store",
                "",
                "Look after the store",
                verbs=(Verb("check", "client.cli.store_check:check", "Check, and repair"),),
            ),
        ),
    ),
    Section(
        "Access and set-up",
        (
            Verb("login", "client.cli.login:login", "Log in to a registry"),
            Verb("logout", "client.cli.logout:logout", "Forget a registry's credentials"),
            Verb("doctor", "client.cli.doctor:doctor", "Say how a reference is reached, and try it"),
            Verb("completion", "client.cli.completion:completion", "Print completion for bash, zsh or fish"),
        ),
    ),
)
