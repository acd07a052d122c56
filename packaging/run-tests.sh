#!/usr/bin/env bash
# Runs the test runner that follows on the command line, names what was skipped on this machine and why, and says the
# counts once more: a test that finds something missing prints SKIPPED and counts as passed.
set -uo pipefail
target=${CARGO_TARGET_DIR:-target}
report=$target/nextest/ci/junit.xml
log=$target/tests.log
mkdir -p "$target"
rm -f "$report"
"$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
if [ -e "$report" ]; then
    grep -oh 'SKIPPED[: ].*' "$report" | sed 's/&quot;/"/g; s/&apos;/'\''/g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g' |
        sed 's/<\/system-.*//' | sort -u
    grep -E '^ +Summary' "$log"
fi
exit "$code"
