"""A class a resource: parse, one verb, answer."""
