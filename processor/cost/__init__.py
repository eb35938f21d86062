"""What requests cost: tariffs, the prices of the user, and the look-up of published prices in a child process."""
