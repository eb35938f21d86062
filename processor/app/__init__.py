"""The composition root: settings -> objects -> run -> exit code. Only this package knows all others."""
