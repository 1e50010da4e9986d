"""The edge: bounds on connections, headers and bodies that hold for every endpoint, whichever router serves it."""
