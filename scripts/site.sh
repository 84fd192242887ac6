#!/usr/bin/env bash
# MkDocs with what mkdocs.yml names, in an environment of its own: `bash scripts/site.sh build --strict`.
set -euo pipefail
cd "$(dirname "$0")/.."
# Material says that it is maintained until May 2027, and names its successor.
export NO_MKDOCS_2_WARNING=1
exec uv run -q --no-project --isolated --python 3.11 --with mkdocs==1.6.1 --with mkdocs-material==9.8.2 \
  --with mkdocstrings==1.0.8 --with mkdocstrings-python==2.0.11 python -m mkdocs "$@"
