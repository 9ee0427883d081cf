"""The messages of qslice: what lab scripts, gateway and workers write to each other."""
