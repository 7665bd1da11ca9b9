"""The store's own statements, stepped through every order in which several connections can run them."""
