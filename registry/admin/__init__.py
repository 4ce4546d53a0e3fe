"""Administration: what changes accounts, rules and keys, for the admin API and the verbs on the machine."""
