"""Where images lie and can be copied from and to: repositories, OCI layouts, archives."""
