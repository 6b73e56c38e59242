"""Set-up: what is installed, by version and hash (*.lock), and what installs and renews it."""
