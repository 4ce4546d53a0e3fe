"""ID tokens that were used, until they expire: what was shown once is not taken from somebody else."""

from storage.database import Connection


def take(db: Connection, provider: str, jti: str, source: str, expires_at: float) -> bool:
    """Note the use of an ID token; False when another source used it before.

    An empty `source` is a use that excludes every other, and itself again.
    """
    db.execute("DELETE FROM oidc_token WHERE expires_at < ?", (db.now(),))
    first = db.execute(
        "INSERT INTO oidc_token (provider, jti, source, expires_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (provider, jti, source, expires_at),
    )
    if first.rowcount == 1:
        return True
    (before,) = db.execute(
        "SELECT source FROM oidc_token WHERE provider = ? AND jti = ?", (provider, jti)
    ).fetchone()
    return bool(source) and before == source
