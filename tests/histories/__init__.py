"""Golden histories: real runs of every kind of ending, kept so that newer code must still replay them."""
