"""The product's rules as plain values: no clock, no dice, no I/O."""
