"""Faults of the world: gateways that fail or lie, channels down, clocks apart, a full disk, floods and partitions."""
