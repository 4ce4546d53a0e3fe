"""What can be wrong with a place, in the one error tree."""

from storage.oci.errors import RequestInvalid


class PlaceInvalid(RequestInvalid):
    """A layout or an archive that is damaged, or that two programs would read differently."""
