"""What runs beside the requests: the collector and the journal."""
