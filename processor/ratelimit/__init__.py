"""When may a request go? Lanes and a gate in front; headers, charges and pictures of the server behind. See gate.py."""
