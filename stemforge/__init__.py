"""stemforge."""
