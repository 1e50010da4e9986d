"""The platforms. Each is a package of its own, imported when it is first used."""
