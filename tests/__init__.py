"""Tests: `product/` by rule number, `stories/` on real servers, the rooms, and `house/` the building itself."""
