"""The steps of the database's schema, in order."""

from pathlib import Path

from storage.database import Migration

MIGRATIONS = Migration.load(Path(__file__).parent)
