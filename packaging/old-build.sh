#!/usr/bin/env bash
# Builds the hpc of an earlier commit into target/old/hpc, for the tests that mix two builds in one cluster
# (tests/it/upgrade.rs). Which one stands in tests/it/old-build. Repeating it costs nothing. Where the history is not
# there (a shallow clone, an archive) it says so, and those tests are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
commit=$(cat tests/it/old-build)
target=${CARGO_TARGET_DIR:-target}
if [ "$(cat "$target/old/commit" 2>/dev/null)" = "$commit" ] && [ -x "$target/old/hpc" ]; then
    exit 0
fi
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "old-build: commit $commit is not in this clone: tests that mix two builds will be skipped"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive "$commit" | tar -x -C "$work"
mkdir -p "$work/target" "$target/old"
cp -a target/hwloc-static "$work/target/hwloc-static" 2>/dev/null || true
echo "old-build: building hpc of $commit (once, some minutes)"
(cd "$work" && CARGO_TARGET_DIR="$work/target" "${CARGO:-cargo}" build --locked --profile fast --bin hpc)
cp "$work/target/fast/hpc" "$target/old/hpc"
echo "$commit" >"$target/old/commit"
