"""Backtests: history replayed through the very code that serves, step by step, predictions before labels."""
