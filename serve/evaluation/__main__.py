"""The command line: `python -m serve.evaluation --help`."""

import sys

from serve.evaluation.evaluate import main

sys.exit(main())
