"""One file a command: options in, one function of a room called, words and numbers out."""
