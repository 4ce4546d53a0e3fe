"""The client: talks to registries, keeps a local runtime store."""
