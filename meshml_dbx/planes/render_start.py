"""The shell script that runs a stock Envoy and closes its log, so that finished files never grow.

It does what a supervised sidecar's supervisor does for the log alone: it holds the lock by which a
living writer is known, and once a minute it renames the log, has Envoy let go of it and moves it
into ``closed/``.
"""

import shlex

from meshml_dbx.planes.render_terms import FLAGS

CLOSE_S = 60
CLOSE_BYTES = 64 * 1024 * 1024

_SCRIPT = """\
#!/bin/sh
# Runs Envoy, and once a minute closes its log, so that meshml ingest can read it meanwhile.
# MESHML_CLOSE_S says after how many seconds instead.
# Needs flock (util-linux) and GNU date: both are in the stock Envoy image, not in distroless.
set -eu
cd "$(dirname "$0")"
logs=@LOGS@
live="$logs/live" closed="$logs/closed"
mkdir -p "$live" "$closed"

# Whoever holds this lock writes here: meshml ingest leaves its live files alone.
exec 9<"$live"
flock -n 9 || { echo "start.sh: another Envoy writes to $live" >&2; exit 1; }

numbers() {
    ls "$closed" "$live" | sed -n -e 's/^.*Z-\\([0-9][0-9]*\\)\\.jsonl$/\\1/p' \\
        -e 's/^closing-\\([0-9][0-9]*\\)\\.jsonl$/\\1/p'
}

next_number() {
    echo $(($(numbers | sort -n | tail -n 1 | grep . || echo 0) + 1))
}

# A closing file is finished once Envoy has opened the next one.
finish() {
    for file in "$live"/closing-*.jsonl; do
        [ -e "$file" ] || continue
        number=${file##*closing-}
        mv "$file" "$closed/$(date -u +%Y%m%dT%H%M%S.%6NZ)-$number"
    done
}

close_log() {
    [ -s "$live/access.jsonl" ] || return 0
    mv "$live/access.jsonl" "$live/closing-$(next_number).jsonl"
    kill -USR1 "$1"
    for _ in $(seq 100); do
        [ -e "$live/access.jsonl" ] && { finish; return 0; }
        sleep 0.05
    done
}

is_large() {
    [ "$(wc -c 2>/dev/null <"$live/access.jsonl" || echo 0)" -gt @BYTES@ ]
}

close_often() {
    seconds=0
    while sleep 1 && kill -0 "$1" 2>/dev/null; do
        seconds=$((seconds + 1))
        if [ "$seconds" -ge "${MESHML_CLOSE_S:-@SECONDS@}" ] || is_large; then
            close_log "$1"
            seconds=0
        fi
    done
}

"${ENVOY_PATH:-envoy}" -c bootstrap.json @FLAGS@ &
envoy=$!
close_often "$envoy" 9<&- &
closer=$!
# The closer goes first: an Envoy that is ending dies of its signal.
trap 'kill "$closer" 2>/dev/null || :; kill -TERM "$envoy" 2>/dev/null || :' TERM INT HUP
status=0
wait "$envoy" || status=$?
while kill -0 "$envoy" 2>/dev/null; do status=0; wait "$envoy" || status=$?; done
kill "$closer" 2>/dev/null || :
wait "$closer" 2>/dev/null || :
if [ -s "$live/access.jsonl" ]; then
    mv "$live/access.jsonl" "$live/closing-$(next_number).jsonl"
fi
finish
exit "$status"
"""


def start_script(logs: str) -> str:
    """The script for a sidecar whose log folder this is."""
    values = {
        "@LOGS@": shlex.quote(logs),
        "@BYTES@": str(CLOSE_BYTES),
        "@SECONDS@": str(CLOSE_S),
        "@FLAGS@": " ".join(FLAGS),
    }
    script = _SCRIPT
    for mark, value in values.items():
        script = script.replace(mark, value)
    return script
