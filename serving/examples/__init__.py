"""Programs that stand beside Modiste: they know its topics and messages, and nothing of its code."""
