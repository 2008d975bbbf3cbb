#!/usr/bin/env bash
# The HTTP API by curl, against a running `modiste up` or `modiste demo`: bash serving/examples/http.sh
# MODISTE_URL names another gateway, MODISTE_KEY a key of it, CUSTOMER a customer.
set -euo pipefail

URL="${MODISTE_URL:-http://127.0.0.1:8000}"
CUSTOMER="${CUSTOMER:-1228}"

ask() {
    local path="$1"
    shift
    curl --silent --show-error --fail-with-body ${MODISTE_KEY:+--header "Authorization: Bearer $MODISTE_KEY"} "$URL$path" "$@"
    echo
}

# What answers: the bundle, through when it has learned, its numbers.
ask /v1/bundle

# Five articles for a customer, by a link.
ask "/v1/recommend/user/$CUSTOMER?top_k=5&strategy=full"

# The same with filters and the trace of the stages; the request_id is ours, to ask for the reasons later.
ask /v1/recommendations --json @- <<JSON
{"request_id": "example-1", "customer_id": "$CUSTOMER", "k": 5, "filters": {"exclude_bought": true}, "explain": true}
JSON
ask /v1/explain/example-1

# The article that leads the list, and what is like it: by content, by who buys it, by what is bought with it.
ARTICLE="$(ask /v1/explain/example-1 | sed -E 's/.*"items":\[\{"article_id":"([^"]+)".*/\1/')"
ask "/v1/articles/$ARTICLE"
ask "/v1/articles/$ARTICLE/similar?by=content&top_k=3"
ask "/v1/articles/$ARTICLE/similar?by=covisitation&top_k=3"

# It is bought. event_id makes it safe to send again; request_id says which answer it came from.
ask /v1/events --json @- <<JSON
{"event_id": "example-1-1", "type": "purchase", "customer_id": "$CUSTOMER", "article_id": "$ARTICLE", "price": 4.99, "request_id": "example-1"}
JSON

# What is known of the customer now, and the newest purchases alone.
ask "/v1/customers/$CUSTOMER?limit=3"
ask "/v1/customers/$CUSTOMER/history?type=purchase&limit=3"
