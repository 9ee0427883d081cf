"""The worker loop: every service that does jobs is a handler and a `main` on top of it."""
