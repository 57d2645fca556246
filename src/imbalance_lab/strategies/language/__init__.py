"""How strategies are written down: slots, options, the registry, search spaces, the prior ledger."""
