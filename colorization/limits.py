"""How much a file, an archive or a download may take: every limit of this project, stated once.

The pyfunc is one self-contained file and states its own; a test compares those that both have.
"""

MIB = 2**20
