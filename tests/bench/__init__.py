"""The bench: how fast Tidemark is, as ratios against a known thing measured in the same run on the same servers."""
