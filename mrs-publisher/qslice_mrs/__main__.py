"""`python -m qslice_mrs`."""

from qslice_mrs.main import main

main()
