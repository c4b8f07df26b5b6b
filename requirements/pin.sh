#!/usr/bin/env bash
# Resolves pyproject's dependencies and requirements/dev.in to pinned files that record no address.
set -euo pipefail
cd "$(dirname "$0")"
flags=(--quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11)
uv pip compile "${flags[@]}" ../pyproject.toml -o /tmp/core.$$ > /dev/null
uv pip compile "${flags[@]}" ../pyproject.toml dev.in -c /tmp/core.$$ -o /tmp/dev.$$ > /dev/null
{ echo "# What streamgauge runs on, pinned; installed with --no-deps. Made by: make pins"; sort /tmp/core.$$; } > core.txt
{ echo "# What its tests and checks add, pinned; installed with --no-deps. Made by: make pins"; sort /tmp/dev.$$ | comm -13 <(sort /tmp/core.$$) -; } > dev.txt
rm -f /tmp/core.$$ /tmp/dev.$$
