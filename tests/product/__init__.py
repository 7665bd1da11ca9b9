"""The product's rules, each test marked with the number it holds in docs/rules.md; no server, no clock."""
