"""Where things are: settings, brokers, stores, bundles, processes. Knows nothing of the shop."""
