"""A run from the outside: opens the files, makes the rooms, shows what happens, closes everything."""
