"""The publisher of qslice: completions become records of the SLICES Metadata Registry."""
