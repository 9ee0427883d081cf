"""The first process of a container: its source, how it is compiled, and what is said to it."""
