"""Sessions to several hosts, which share tokens and end together."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self

from client.auth import TokenCache
from client.credentials import ANONYMOUS, Credentials
from client.endpoints import Endpoint, Host
from client.network import NETWORK, Network
from client.session import Session
from client.sources import RepositorySource

# There is somewhere else to go, so that a mirror that is down does not hold a pull up.
_MIRROR_ATTEMPTS = 2


class Sessions:
    """Makes one session a host, when it is first needed."""

    def __init__(self, credentials: Credentials = ANONYMOUS, network: Network = NETWORK) -> None:
        self._credentials = credentials
        self._network = network
        self._tokens = TokenCache()
        self._lock = threading.Lock()
        self._sessions: dict[Host, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.close()

    def to(self, endpoint: Endpoint) -> Session:
        network = self._network
        if endpoint.is_mirror:
            network = replace(network, patience=replace(network.patience, attempts=_MIRROR_ATTEMPTS))
        with self._lock:
            if endpoint.host not in self._sessions:
                self._sessions[endpoint.host] = Session(
                    endpoint.host, self._credentials, network, self._tokens
                )
            return self._sessions[endpoint.host]

    def sources(self, endpoints: Iterable[Endpoint]) -> list[RepositorySource]:
        """Return the endpoints as a transfer takes them, in their order."""
        return [RepositorySource(self.to(each), each.repository) for each in endpoints]
