"""What a program needs to boot: settings, logs, the Temporal client and the embedded servers for development."""
