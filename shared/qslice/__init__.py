"""The contract, worker loop, SDK and command line of qslice."""
