"""The pages: what owners and operators see and do in a browser."""
