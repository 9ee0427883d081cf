"""A stand-in for the SLICES Metadata Registry System (MRS), version 0.2 of its API.

The real registry's source and swagger.json are not public. This server keeps to what public
programs and documents show of it, and is strict where they show it to be strict.
"""
