#!/usr/bin/env bash
# Resolves pyproject's dependencies, requirements/dev.in and peers.in to pinned files that record no address.
set -euo pipefail
cd "$(dirname "$0")"
flags=(--quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11)
uv pip compile "${flags[@]}" ../pyproject.toml -o /tmp/core.$$ > /dev/null
uv pip compile "${flags[@]}" ../pyproject.toml dev.in -c /tmp/core.$$ -o /tmp/dev.$$ > /dev/null
{ echo "# What streamgauge runs on, pinned; installed with --no-deps. Made by: make pins"; sort /tmp/core.$$; } > core.txt
{ echo "# What its tests and checks add, pinned; installed with --no-deps. Made by: make pins"; sort /tmp/dev.$$ | comm -13 <(sort /tmp/core.$$) -; } > dev.txt
rm -f /tmp/core.$$ /tmp/dev.$$

# The tools of `python -m bench peers`, an environment each.
{
  echo "# What each compared tool runs on, pinned, an environment each; installed with --no-deps. Made by: make pins"
  grep -v '^#' peers.in | while read -r tool python asked; do
    echo "#: $tool $python"
    tr ' ' '\n' <<< "$asked" | uv pip compile "${flags[@]:0:5}" --python-version "$python" - | sort
  done
} > peers.txt
