"""Transfer learning: what is frozen, when it trains, at which rate, and proof that it was so."""
