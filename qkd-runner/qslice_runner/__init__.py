"""The worker of qslice that clones, builds and runs experiments."""
