"""A platform in a distribution of its own: what a third party writes to add one."""
