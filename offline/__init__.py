"""Learning and judging: data sets, training, evaluation, publishing."""
