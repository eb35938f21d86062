"""What is known of an endpoint: whether it accepts this run's requests at all, and whether it is down at present."""
