"""`make demo`: the product's own cases, played through its API on real servers and told as short stories."""
