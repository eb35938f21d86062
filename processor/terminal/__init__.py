"""What a person sees while it runs and when it ends. Everything goes to stderr, and everything is heard as events."""
