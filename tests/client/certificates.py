"""Certificates made by openssl: an authority, servers it vouches for, and some it should not."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    @classmethod
    def create(cls, directory: Path) -> "Authority":
        directory.mkdir(parents=True, exist_ok=True)
        _openssl(
            "req", "-x509", *_KEY, "-keyout", directory / "ca.key", "-out", directory / "ca.crt",
            "-days", "2", "-subj", "/CN=test authority",
        )  # fmt: skip
        return cls(directory)

    def issue(
        self, name: str, alternatives: str = "IP:127.0.0.1,DNS:localhost", usage: str = ""
    ) -> tuple[Path, Path]:
        """Return certificate and key for a server or client; `usage` says for which alone."""
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        limited = f"extendedKeyUsage={usage}\n" if usage else ""
        extensions.write_text(f"subjectAltName={alternatives}\n{limited}")
        _openssl("req", "-new", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.directory / "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def server_context(self, name: str = "server", alternatives: str | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(self.issue(name, alternatives) if alternatives else self.issue(name)))
        return context


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
