#!/usr/bin/env bash
# The topics by kcat, against a running `modiste up` or `modiste demo`: bash serving/examples/kafka.sh
# KAFKA names another broker, CUSTOMER a customer. The key of every message is the customer_id.
set -euo pipefail

KAFKA="${KAFKA:-127.0.0.1:19092}"
CUSTOMER="${CUSTOMER:-1228}"
ARTICLE="${ARTICLE:-1082185}"
REQUEST="example-$(date +%s)"

# A purchase goes in: key, a tab, the message.
printf '%s\t%s\n' "$CUSTOMER" "{\"event_id\": \"$REQUEST-1\", \"type\": \"purchase\", \"occurred_at\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"customer_id\": \"$CUSTOMER\", \"article_id\": \"$ARTICLE\", \"price\": 1.99}" |
    kcat -b "$KAFKA" -P -t transactions -K '\t'

# A request goes in.
printf '%s\t%s\n' "$CUSTOMER" "{\"request_id\": \"$REQUEST\", \"customer_id\": \"$CUSTOMER\", \"k\": 5, \"explain\": true}" |
    kcat -b "$KAFKA" -P -t recommendation-requests -K '\t'

# Its answer is among the newest a moment later; no line and exit code 1 where nobody answers.
sleep 1
kcat -b "$KAFKA" -C -q -e -t recommendations -o -50 -f '%s\n' | grep "\"request_id\":\"$REQUEST\""
