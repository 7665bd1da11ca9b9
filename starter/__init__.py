"""The balance watcher, and the command that starts one top-up."""
