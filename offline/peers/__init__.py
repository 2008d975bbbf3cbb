"""What `modiste bench events` compares the worker with: the same fold, store and encoder behind other consumers."""
