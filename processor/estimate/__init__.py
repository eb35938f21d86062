"""What a run will send, use and take, before anything is sent."""
