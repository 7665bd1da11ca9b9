"""Chaos: every program killed, ended, stopped and cut off while top-ups stand at named points of their way."""
