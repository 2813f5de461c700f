#!/bin/sh
# The size of the code: lines per crate, the longest file, and how many crates the client, the worker
# and the broker bring into a build (their own workspace members not counted).
set -eu
cd "$(dirname "$0")/../.."

echo "lines of Rust per crate (without generated code)"
for crate in proto broker client worker worker/macros cli examples/songs tests tests/history tests/bench; do
    [ -f "$crate/Cargo.toml" ] || continue
    files=$(find "$crate" -name '*.rs' -not -path '*/target/*' -not -name generated.rs)
    case $crate in
        worker) files=$(echo "$files" | grep -v '^worker/macros/') ;;
        tests) files=$(echo "$files" | grep -Ev '^tests/(bench|history)/') ;;
    esac
    printf '  %-16s %6d lines in %3d files\n' "$crate" "$(cat $files | wc -l)" "$(echo "$files" | wc -l)"
done

echo "longest file"
find . -name '*.rs' -not -path './target/*' -not -name generated.rs -exec wc -l {} + |
    grep -v ' total$' | sort -rn | head -1 | awk '{ printf "  %s, %d lines\n", $2, $1 }'

echo "dependencies, direct and in all"
for crate in celeriac-client celeriac-worker celeriac-broker celeriac; do
    count() {
        cargo tree --locked --package "$crate" --edges normal --prefix none "$@" |
            awk '{ print $1, $2 }' | sort -u | grep -vc '^celeriac' || true
    }
    printf '  %-16s %3d direct %4d in all\n' "$crate" "$(count --depth 1)" "$(count)"
done
