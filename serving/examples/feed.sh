#!/usr/bin/env bash
# Prints new recommendations of subscribed customers as they come, by kcat: bash serving/examples/feed.sh [CUSTOMER]
# KAFKA names another broker. Who gets them says `modiste serving subscribe CUSTOMER`. A message may come twice, with
# the same request_id: whoever must not show it twice remembers those, as subscriber.py does.
set -euo pipefail

KAFKA="${KAFKA:-127.0.0.1:19092}"
CUSTOMER="${1:-}"

# From now on, all partitions, line by line. An answer to a request has no trigger.
kcat -b "$KAFKA" -C -q -u -t recommendations -o end |
    grep --line-buffered -F '"trigger":"feed"' |
    grep --line-buffered -F "${CUSTOMER:+\"customer_id\":\"$CUSTOMER\"}"
