"""Plan, gates, engine, ledger, report: the only room that knows the order of things."""
