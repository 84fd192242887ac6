"""How much a file, an archive or a download may take: every limit of this project, stated once.

The pyfunc is one self-contained file and states its own; a test compares those that both have.
"""

MIB = 2**20

# The page
MAX_UPLOAD_BYTES = 64 * MIB
"""Most bytes of one uploaded file."""
MAX_UPLOADS_BYTES = 2048 * MIB
"""Most bytes of all uploads that the page keeps."""
MAX_UPLOADS_SECONDS = 3600
"""How long the page keeps an upload."""
MAX_EVENT_BYTES = MIB
"""Most bytes of one event of the page, such as a move of a slider."""
MAX_PICTURES_AT_ONCE = 20
"""Most pictures of one upload that the page colors."""
