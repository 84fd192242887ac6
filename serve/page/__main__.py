"""The command line: `python -m serve.page --help`."""

import sys

from serve.page.app import main

sys.exit(main())
