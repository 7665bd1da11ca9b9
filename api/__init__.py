"""The HTTP API: routes that translate, delegate and translate back, and the only table from refusal to status."""
