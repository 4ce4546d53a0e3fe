"""The registry: an ASGI application that speaks the OCI distribution API."""
