"""What is known of one run of the program, from its global options to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` does not import it
    from storage.oci.names import ImageReference


@dataclass(slots=True)
class Run:
    """Filled as it becomes known; the line about an error and the exit code are made from it."""

    store: Path | None = None
    verbose: bool = False
    # What an error was about, if it is one image, and that error.
    subject: "ImageReference | None" = None
    failure: BaseException | None = None
    # Whether something is kept on disk with which the same command would go on.
    has_kept: bool = False
    # What stopped it.
    signal: int | None = None
