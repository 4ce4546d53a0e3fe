"""Placeholder until the protocol helper's version arrives."""

import uvicorn

from registry.app import create_app
from registry.settings import Settings


def create(settings: Settings) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(create_app(settings), access_log=False, log_level="warning"))


def serve(settings: Settings) -> int:
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False)
    return 0
