"""The command line: `python -m serve.batch --help`."""

import sys

from serve.batch.folder import main

sys.exit(main())
