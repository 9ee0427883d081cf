"""Digital objects of the registry: typed models, and how a completion becomes one."""
