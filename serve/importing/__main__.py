"""The command line: `python -m serve.importing --help`."""

import sys

from serve.importing.import_model import main

sys.exit(main())
