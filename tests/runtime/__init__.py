"""Tests of the runtime: settings, logs, embedded servers, the inbox and the stack that holds them."""
