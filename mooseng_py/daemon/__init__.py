"""What all daemons share: arguments, start in any order, health, clean stop."""
