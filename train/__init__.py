"""The nets and how they are trained."""
