"""The command line: `python -m colorization.registry --help`."""

import sys

from colorization.registry.promotion import main

sys.exit(main())
