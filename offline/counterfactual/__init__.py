"""Counterfactual evaluation: what another policy would have earned, by what one showed and with what chance."""
