"""The provenance of a batch as a Process Run Crate: what ran, of what, when, by whom."""
