#!/bin/sh
# PostFailover, Exhausted: shows a message on the desktop, where there is one; else it says nothing.
input=$(cat)
field() { printf '%s' "$input" | sed -n "s/.*\"$1\":\"\([A-Za-z0-9._-]*\)\".*/\1/p"; }
from=$(field from) to=$(field to) error=$(field error)
if [ -n "$to" ]; then text="$from: ${error:-unwell}, now on $to"; else text="no profile can answer ($from: ${error:-unwell})"; fi
if command -v notify-send > /dev/null; then
    notify-send hotspare "$text"
elif command -v osascript > /dev/null; then
    # The text goes in as an argument: nothing in it is run.
    osascript -e 'on run argv' -e 'display notification (item 1 of argv) with title "hotspare"' -e 'end run' "$text"
fi
