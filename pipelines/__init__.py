"""Where things run: one short main per DVC stage, and the `stemforge` command."""
