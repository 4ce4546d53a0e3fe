"""The table of administration's verbs, in the order in which `--help` shows them."""

from client.cli.group import Section, Verb


def _verb(noun: str, name: str, help: str, function: str = "") -> Verb:
    return Verb(name, f"registry.admin.{noun}:{function or name}", help)


_USER = (
    _verb("user", "add", "Make a user"),
    _verb("user", "passwd", "Give a user another password"),
    _verb("user", "reset", "Let a user in again, with a new password"),
    _verb("user", "disable", "Shut users out"),
    _verb("user", "enable", "Let users in again"),
    _verb("user", "promote", "Make users administrators"),
    _verb("user", "demote", "Make administrators ordinary users"),
    _verb("user", "import", "Make the users of an htpasswd file", "import_file"),
    _verb("user", "rm", "Delete users"),
    _verb("user", "ls", "List users"),
)
_GROUP = (
    _verb("group", "add", "Make a group"),
    _verb("group", "rm", "Delete a group"),
    _verb("group", "ls", "List groups and who is in them"),
    _verb("group", "join", "Put users into a group"),
    _verb("group", "leave", "Take users out of a group"),
)
_ROBOT = (
    _verb("robot", "add", "Make a robot"),
    _verb("robot", "token", "Make a secret of a robot"),
    _verb("robot", "disable", "Stop a robot"),
    _verb("robot", "enable", "Let a robot work again"),
    _verb("robot", "rm", "Delete a robot"),
    _verb("robot", "ls", "List robots"),
)
_TOKEN = (
    _verb("token", "ls", "List tokens, secrets and logins"),
    _verb("token", "add", "Make a personal token of a user"),
    _verb("token", "revoke", "End tokens, secrets and logins"),
)
_IMMUTABLE = (
    _verb("policy", "ls", "List rules of immutable tags", "ls_immutable"),
    _verb("policy", "add", "Make tags immutable", "add_immutable"),
    _verb("policy", "rm", "Remove a rule of immutable tags", "rm_immutable"),
)
_POLICY = (
    _verb("policy", "ls", "List rules"),
    _verb("policy", "add", "Add a rule"),
    _verb("policy", "rm", "Remove rules"),
    _verb("policy", "explain", "Say what would be decided, and by which rule"),
    Verb("immutable", "", "Look after tags that stay what they are", verbs=_IMMUTABLE),
)
_QUOTA = (
    _verb("quota", "ls", "List quotas"),
    _verb("quota", "set", "Limit the repositories of a pattern", "put"),
    _verb("quota", "rm", "Remove a quota"),
)
_KEY = (
    _verb("key", "ls", "List keys"),
    _verb("key", "rotate", "Sign with a new key"),
    _verb("key", "retire", "End a key"),
)
SECTION = Section(
    "Access to the registry of this machine",
    (
        Verb("user", "", "Look after users", verbs=_USER),
        Verb("group", "", "Look after groups of users", verbs=_GROUP),
        Verb("robot", "", "Look after accounts of machines", verbs=_ROBOT),
        Verb("token", "", "Look after tokens, secrets and logins", verbs=_TOKEN),
        Verb("policy", "", "Say who may do what where", verbs=_POLICY),
        Verb("quota", "", "Limit what repositories hold", verbs=_QUOTA),
        Verb("key", "", "Look after what signs access tokens", verbs=_KEY),
    ),
)
